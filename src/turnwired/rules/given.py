"""Parts that a client may give in a message of its own: it asks for nothing and answers nothing there."""

from turnwire.v1 import message_pb2, reason_pb2
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, ToolCall
from turnwired.errors import Fault

_TOOLS = frozenset({"tool_call", "tool_result", "approval"})
_ASKING = frozenset({ToolCall.STATE_INPUT_STREAMING, ToolCall.STATE_AWAITING_APPROVAL, ToolCall.STATE_AWAITING_RESULT})


def check(message: Message, field: str = "message") -> None:
    """Refuse parts that only the server may make. Raises FIELD_INVALID.

    A user's message holds no tool's parts: answers go by ResumeTurn, or with a continuation. One that is appended for
    an assistant may tell of calls that are over, never of one that still asks for something.
    """
    for place, part in enumerate(message.parts):
        kind = part.WhichOneof("kind") or ""
        where = f"{field}.parts[{place}]"
        if not kind:
            raise Fault(reason_pb2.REASON_FIELD_MISSING, f"{where} has no kind", field=f"{where}.kind")
        if kind in _TOOLS and message.role != message_pb2.ROLE_ASSISTANT:
            text = f"{where} is a tool's, which only an assistant's message may hold"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, text, field=where)
        asks = kind == "approval" and part.approval.state == Approval.STATE_REQUESTED
        if asks or (kind == "tool_call" and part.tool_call.state in _ASKING):
            text = f"{where} asks for something: only a turn can"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, text, field=where)
