"""What a chunk may hold: the table of contracts/alumia.md, section 6, and the order of section 6's grammar."""

import json

from pydantic_ai.ui.vercel_ai import response_types

TABLE = {
    "start": ("messageId", ""),
    "start-step": ("", ""),
    "finish-step": ("", ""),
    "text-start": ("id", "providerMetadata"),
    "text-delta": ("id delta", "providerMetadata"),
    "text-end": ("id", "providerMetadata"),
    "reasoning-start": ("id", "providerMetadata"),
    "reasoning-delta": ("id delta", "providerMetadata"),
    "reasoning-end": ("id", "providerMetadata"),
    "tool-input-start": ("toolCallId toolName", "providerExecuted dynamic title"),
    "tool-input-delta": ("toolCallId inputTextDelta", ""),
    "tool-input-available": ("toolCallId toolName input", "providerExecuted providerMetadata dynamic title"),
    "tool-input-error": ("toolCallId toolName input errorText", "providerExecuted dynamic title"),
    "tool-approval-request": ("approvalId toolCallId", ""),
    "tool-output-available": ("toolCallId output", "providerExecuted dynamic preliminary"),
    "tool-output-error": ("toolCallId errorText", "providerExecuted dynamic"),
    "tool-output-denied": ("toolCallId", ""),
    "source-url": ("sourceId url", "title providerMetadata"),
    "source-document": ("sourceId mediaType title", "filename providerMetadata"),
    "file": ("url mediaType", "providerMetadata"),
    "data-": ("data", "id transient"),
    "finish": ("finishReason", ""),
    "abort": ("", ""),
    "error": ("errorText", ""),
}
"""Required and optional keys by type; `messageId` and `finishReason` are optional to the client, not to this server."""

FREE = {"input", "output", "data", "providerMetadata"}
FLAGS = {"providerExecuted", "dynamic", "preliminary", "transient"}
TERMINAL = {"finish", "abort", "error"}


def read(lines):
    """The chunks of lines, which must be one line each; `[DONE]` ends them."""
    assert not any("\n" in line or "\r" in line for line in lines)
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    assert lines.count("[DONE]") == (1 if lines and lines[-1] == "[DONE]" else 0)
    return chunks


def check_chunk(chunk):
    """A chunk has what the table says, and nothing else; pydantic-ai's classes take it, too."""
    kind = "data-" if chunk["type"].startswith("data-") else chunk["type"]
    required, optional = (set(keys.split()) for keys in TABLE[kind])
    keys = set(chunk) - {"type"}
    assert required <= keys <= required | optional, chunk
    for key in keys:
        value = chunk[key]
        if key in FREE:
            continue
        assert isinstance(value, bool if key in FLAGS else str), chunk
        assert key not in FLAGS or value is True, chunk
    if "delta" in chunk:
        assert chunk["delta"], chunk
    if chunk["type"] == "finish":
        assert chunk["finishReason"] in {"stop", "length", "content-filter", "tool-calls", "error", "other"}
    carried = chunk.get("providerMetadata", {})
    assert isinstance(carried, dict)
    assert all(isinstance(value, dict) for value in carried.values())
    _MODELS[kind].model_validate(chunk)


def check_order(chunks):
    """One start, first; one end, last; parts inside steps, each closed once; outputs after their calls."""
    kinds = [chunk["type"] for chunk in chunks]
    assert kinds[0] == "start"
    assert kinds.count("start") == 1
    assert kinds[-1] in TERMINAL
    assert sum(kind in TERMINAL for kind in kinds) == 1
    step, steps, parts, used, inputs, calls = False, 0, {}, set(), set(), set()
    for chunk in chunks[1:]:
        kind = chunk["type"]
        word = kind.partition("-")[0]
        match kind:
            case "start-step":
                assert not step
                step, steps = True, steps + 1
            case "finish-step":
                assert step
                assert not parts
                step = False
            case "text-start" | "reasoning-start":
                assert step
                assert chunk["id"] not in used
                used.add(chunk["id"])
                parts[chunk["id"]] = word
            case "text-delta" | "reasoning-delta":
                assert parts[chunk["id"]] == word
            case "text-end" | "reasoning-end":
                assert parts.pop(chunk["id"]) == word
            case "tool-input-start":
                assert step
                assert chunk["toolCallId"] not in inputs | calls
                inputs.add(chunk["toolCallId"])
            case "tool-input-delta":
                assert chunk["toolCallId"] in inputs
            case "tool-input-available" | "tool-input-error":
                assert chunk["toolCallId"] not in calls
                inputs.discard(chunk["toolCallId"])
                calls.add(chunk["toolCallId"])
            case "tool-approval-request" | "tool-output-available" | "tool-output-error" | "tool-output-denied":
                assert chunk["toolCallId"] in calls
            case "finish":
                assert steps
                assert not step
            case "abort" | "error":
                assert not step
            case _:
                assert step, chunk
    assert not parts
    assert not inputs


def said(chunks, kind="text"):
    """All text of a kind, in order."""
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == f"{kind}-delta")


_MODELS = {
    "start": response_types.StartChunk,
    "start-step": response_types.StartStepChunk,
    "finish-step": response_types.FinishStepChunk,
    "text-start": response_types.TextStartChunk,
    "text-delta": response_types.TextDeltaChunk,
    "text-end": response_types.TextEndChunk,
    "reasoning-start": response_types.ReasoningStartChunk,
    "reasoning-delta": response_types.ReasoningDeltaChunk,
    "reasoning-end": response_types.ReasoningEndChunk,
    "tool-input-start": response_types.ToolInputStartChunk,
    "tool-input-delta": response_types.ToolInputDeltaChunk,
    "tool-input-available": response_types.ToolInputAvailableChunk,
    "tool-input-error": response_types.ToolInputErrorChunk,
    "tool-approval-request": response_types.ToolApprovalRequestChunk,
    "tool-output-available": response_types.ToolOutputAvailableChunk,
    "tool-output-error": response_types.ToolOutputErrorChunk,
    "tool-output-denied": response_types.ToolOutputDeniedChunk,
    "source-url": response_types.SourceUrlChunk,
    "source-document": response_types.SourceDocumentChunk,
    "file": response_types.FileChunk,
    "data-": response_types.DataChunk,
    "finish": response_types.FinishChunk,
    "abort": response_types.AbortChunk,
    "error": response_types.ErrorChunk,
}
