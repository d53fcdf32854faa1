"""Responses that are serialised once and sent to many."""

from typing import Generic, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


class Frame(Generic[M]):
    """A response message in its serialised form, which any number of watchers share.

    A handler may yield it in place of the message. Over a socket its bytes go out as they are (the interceptor
    `FrameSerializer`), in process each reader parses its own copy. `repeated` fields concatenate on the wire, so the
    bytes of several frames of one kind, joined, are a frame of all their events. Source: core.md, part 5.
    """

    __slots__ = ("_kind", "data")

    def __init__(self, kind: type[M], data: bytes) -> None:
        """A frame of `data`, which are the bytes of a `kind`; they are not looked at here."""
        self._kind = kind
        self.data = data

    @classmethod
    def of(cls, message: M) -> "Frame[M]":
        """The frame of a message as it is now."""
        return cls(type(message), message.SerializeToString())

    def message(self) -> M:
        """A new message of the frame's bytes; changing it changes no other. DecodeError if they are not of its kind."""
        return self._kind.FromString(self.data)

    def __repr__(self) -> str:
        return f"Frame({self._kind.DESCRIPTOR.full_name}, {len(self.data)} bytes)"
