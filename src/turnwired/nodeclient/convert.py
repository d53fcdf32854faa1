"""Between the two kinds of messages here: dataclasses go over the wire, and agents are given protobuf's own."""

from typing import Any, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
D = TypeVar("D")


def to_protobuf(kind: type[M], data: Any) -> M:
    """The message of a dataclass of the same name."""
    return kind.FromString(bytes(data))


def to_dataclass(kind: type[D], message: Message) -> D:
    """The dataclass of a message of the same name."""
    made: D = kind.parse(message.SerializeToString())  # type: ignore[attr-defined]  # every generated one has it
    return made
