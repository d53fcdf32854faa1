"""A file in a multipart form, read as it arrives: what stands before it and behind it is passed over."""

import enum
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.uploads import OCTETS, Body, Incoming

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_BESIDES: Final = 1024 * 1024
"""Bytes of a form that are not the file's."""


class FormKind(enum.Enum):
    """What is wrong with a form."""

    NOT_A_FORM = enum.auto()
    """The body is no `multipart/form-data`, or names no boundary."""
    MALFORMED = enum.auto()
    """It cannot be read, or has no end."""
    MISSING = enum.auto()
    """It has no part of that name."""
    TWICE = enum.auto()
    """It has two parts of that name."""


class FormError(Exception):
    """A form that is not acceptable. `text` is public."""

    def __init__(self, kind: FormKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


async def part(request: Request, body: Body, name: str = "file") -> Incoming:
    """The part of a form that has this name, once its headers have come.

    Its chunks end only if the form did, and had no other of this name. Raises FormError, and BodyError as `Body` does,
    or TOO_LARGE if there is more besides the file than a mebibyte; so do the chunks.
    """
    form = _Form(_boundary(request), name)
    chunks = body.chunks()
    while form.part is None:
        data = await anext(chunks, None)
        if data is None:
            text = f"the form has no part {name}" if form.ended else "the form has no end"
            raise FormError(FormKind.MISSING if form.ended else FormKind.MALFORMED, text)
        form.feed(data)
    media_type, filename = form.part
    return Incoming(_chunks(form, chunks), media_type, filename)


def is_form(request: Request) -> bool:
    """Whether a request's body says that it is a form."""
    kind, _ = parse_options_header(request.headers.get("content-type"))
    return kind == b"multipart/form-data"


async def _chunks(form: "_Form", rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    while True:
        while form.data:
            yield form.data.popleft()
        data = await anext(rest, None)
        if data is None:
            break
        form.feed(data)
    if not form.ended:
        raise FormError(FormKind.MALFORMED, "the form has no end")


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise FormError(FormKind.NOT_A_FORM, "the body is no multipart/form-data with a boundary")
    return boundary


class _Form:
    """The parser's state. `data` are bytes of the wanted part that nobody has taken yet."""

    def __init__(self, boundary: bytes, name: str) -> None:
        self.data: deque[bytes] = deque()
        self.part: tuple[str, str | None] | None = None
        self.ended = False
        self._name = name
        self._besides = 0
        self._inside = False
        self._headers: dict[bytes, bytes] = {}
        self._field = bytearray()
        self._value = bytearray()
        calls: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, calls)
        except FormParserError as error:
            raise FormError(FormKind.NOT_A_FORM, "the form's boundary is too long") from error

    def feed(self, data: bytes) -> None:
        """Read on. Raises FormError, BodyError."""
        before = sum(map(len, self.data))
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise FormError(FormKind.MALFORMED, "the form cannot be read") from error
        self._besides += len(data) - (sum(map(len, self.data)) - before)
        if self._besides > _BESIDES:
            raise BodyError(Kind.TOO_LARGE, f"there is more in the form besides the file than {_BESIDES} bytes")

    def _begin(self) -> None:
        self._headers.clear()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name", b"").decode("utf-8", "replace") != self._name:
            return
        if self.part is not None:
            raise FormError(FormKind.TWICE, f"the form has more than one part {self._name}")
        filename = options.get(b"filename")
        media_type = self._headers.get(b"content-type", b"").decode("latin-1").strip()
        self.part = (media_type or OCTETS, None if filename is None else filename.decode("utf-8", "replace"))
        self._inside = True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self.data.append(data[start:end])

    def _end(self) -> None:
        self._inside = False

    def _on_end(self) -> None:
        self.ended = True
