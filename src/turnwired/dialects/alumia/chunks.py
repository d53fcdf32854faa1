"""The chunks of the UI message stream, each as one line of JSON.

A client's schema takes the keys of the contract's table and no others; a key that may be missing is left out, never
null. Source: contracts/alumia.md, section 6.
"""

from functools import lru_cache
from typing import Final

from turnwire.v1.message_pb2 import FinishReason
from turnwire.v1.part_pb2 import Approval, Part, ToolResult
from turnwired.dialects.alumia.messages import data_keys, file_url, source_keys, source_type
from turnwired.dialects.alumia.tools import INTERRUPTED, State, Tool, input_of, provider_metadata
from turnwired.web.jsonout import Raw, dumps, raw

DONE: Final = "[DONE]"
ABORT: Final = '{"type":"abort"}'
START_STEP: Final = '{"type":"start-step"}'
FINISH_STEP: Final = '{"type":"finish-step"}'

_REASONS = {
    FinishReason.FINISH_REASON_UNSPECIFIED: "stop",
    FinishReason.FINISH_REASON_STOP: "stop",
    FinishReason.FINISH_REASON_LENGTH: "length",
    FinishReason.FINISH_REASON_CONTENT_FILTER: "content-filter",
    FinishReason.FINISH_REASON_TOOL_CALLS: "tool-calls",
    FinishReason.FINISH_REASON_ERROR: "error",
}


def chunk(kind: str, **keys: object) -> str:
    """A chunk of this type; a key whose value is None is left out."""
    return dumps({"type": kind, **{key: value for key, value in keys.items() if value is not None}})


def finish(reason: FinishReason.ValueType) -> str:
    """The end of a turn that ended, or waits, as its agent wanted."""
    return chunk("finish", finishReason=_REASONS.get(reason, "other"))


def opened(kind: str, part: Part) -> str:
    """`text-start` or `reasoning-start`."""
    return chunk(f"{kind}-start", id=part.id, providerMetadata=carried(part))


def delta(kind: str, part_id: str, text: str) -> str:
    """`text-delta` or `reasoning-delta`."""
    return f"{_delta_head(kind, part_id)}{dumps(text)}}}"


@lru_cache(maxsize=256)
def _delta_head(kind: str, part_id: str) -> str:
    return f'{{"type":"{kind}-delta","id":{dumps(part_id)},"delta":'


def closed(kind: str, part_id: str) -> str:
    """`text-end` or `reasoning-end`."""
    return chunk(f"{kind}-end", id=part_id)


def input_started(part: Part) -> str:
    """The start of a tool call whose input streams."""
    call = part.tool_call
    return chunk(
        "tool-input-start",
        toolCallId=call.call_id,
        toolName=call.tool,
        providerExecuted=call.provider_executed or None,
        dynamic=call.dynamic or None,
        title=call.title or None,
    )


def input_delta(call_id: str, text: str) -> str:
    """A piece of a tool call's input."""
    return chunk("tool-input-delta", toolCallId=call_id, inputTextDelta=text)


def input_available(part: Part, text: str) -> str:
    """A whole tool call; `text` is its input."""
    call = part.tool_call
    return chunk(
        "tool-input-available",
        toolCallId=call.call_id,
        toolName=call.tool,
        input=input_of(text),
        providerExecuted=call.provider_executed or None,
        providerMetadata=carried(part),
        dynamic=call.dynamic or None,
        title=call.title or None,
    )


def input_error(part: Part, text: str, error: str) -> str:
    """A tool call whose input is no good, or never became whole."""
    call = part.tool_call
    return chunk(
        "tool-input-error",
        toolCallId=call.call_id,
        toolName=call.tool,
        input=input_of(text),
        errorText=error,
        providerExecuted=call.provider_executed or None,
        dynamic=call.dynamic or None,
        title=call.title or None,
    )


def approval_request(approval: Approval) -> str:
    """A question to a person."""
    return chunk("tool-approval-request", approvalId=approval.approval_id, toolCallId=approval.call_id)


def preliminary(result: ToolResult) -> str:
    """A result that a later one replaces."""
    return _output(result.call_id, raw(result.output), result, preliminary=True)


def ended(tool: Tool, state: State) -> str:
    """The end of a call; `state` is one of ENDS."""
    call_id = tool.call.call_id
    if state is State.OUTPUT_AVAILABLE:
        return _output(call_id, tool.output, tool.result)
    if state is State.OUTPUT_DENIED:
        return chunk("tool-output-denied", toolCallId=call_id)
    return output_error(call_id, tool.error, tool.result)


def output_error(call_id: str, error: str = INTERRUPTED, result: ToolResult | None = None) -> str:
    """An error of a call whose input was whole."""
    return chunk("tool-output-error", toolCallId=call_id, errorText=error, **_flags(result))


def whole(part: Part) -> list[str]:
    """A part that is one chunk; nothing if it is of another kind."""
    match part.WhichOneof("kind"):
        case "attachment":
            file = part.attachment
            return [chunk("file", url=file_url(file), mediaType=file.media_type, providerMetadata=carried(part))]
        case "source":
            return [chunk(source_type(part), **source_keys(part), providerMetadata=carried(part))]
        case "data":
            return [chunk(f"data-{part.data.name}", **data_keys(part), transient=part.data.transient or None)]
        case _:
            return []


def carried(part: Part) -> Raw | None:
    """The part's provider metadata, where the SDK takes it."""
    return provider_metadata(part.provider_metadata) if part.HasField("provider_metadata") else None


def _output(call_id: str, output: Raw, result: ToolResult | None, *, preliminary: bool = False) -> str:
    return chunk(
        "tool-output-available",
        toolCallId=call_id,
        output=output,
        **_flags(result),
        preliminary=preliminary or None,
    )


def _flags(result: ToolResult | None) -> dict[str, object]:
    executed, dynamic = (result.provider_executed, result.dynamic) if result is not None else (False, False)
    return {"providerExecuted": executed or None, "dynamic": dynamic or None}
