"""Forms cut anywhere give the same file, and a form without an end gives none."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from turnwired.clock import ManualClock, SystemClock
from turnwired.web import forms
from turnwired.web.forms import FormError, FormKind
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.uploads import Body

BOUNDARY = b"xx"


def form(data: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    head = b'content-disposition: form-data; name="%s"%s\r\n'
    other = b"--xx\r\n" + head % (b"other", b"") + b"\r\n%s\r\n"
    file = head % (b"file", b'; filename="a\\"b.png"') + b"Content-Type: image/png\r\n"
    return other % before + b"--xx\r\n" + file + b"\r\n" + data + b"\r\n" + other % behind + b"--xx--\r\n"


def request(pieces: list[bytes], kind: str = "multipart/form-data; boundary=xx", *, ends: bool = True) -> Request:
    left = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    left.append({"type": "http.request", "body": b"", "more_body": False} if ends else {"type": "http.disconnect"})

    async def receive() -> Any:
        return left.pop(0)

    return Request({"type": "http", "headers": [(b"content-type", kind.encode())]}, receive)


async def taken(sent: Request) -> tuple[str, str | None, bytes]:
    file = await forms.part(sent, Body(sent, SystemClock(), 5))
    return file.media_type, file.filename, b"".join([data async for data in file.chunks])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


payloads = st.binary(max_size=200) | st.lists(st.sampled_from([b"\r", b"\n", b"-", b"x", b"\r\n--x", b"a"])).map(
    b"".join
)


@given(payloads, payloads, st.lists(st.integers(0, 10_000), max_size=8))
def test_a_form_cut_anywhere_gives_the_file(data: bytes, behind: bytes, places: list[int]) -> None:
    if b"\r\n--xx" in b"\r\n" + data or b"\r\n--xx" in b"\r\n" + behind:
        return
    pieces = cut(form(data, behind=behind), places)
    assert asyncio.run(taken(request(pieces))) == ("image/png", 'a"b.png', data)


@given(st.binary(max_size=50).filter(lambda data: b"\r\n--xx" not in data), st.integers(0, 10_000))
def test_a_form_that_ends_too_early_is_told_from_a_whole_one(data: bytes, place: int) -> None:
    whole = form(data)
    short = whole[: place % (len(whole) - 4)]
    for ends, error in ((True, FormError), (False, BodyError)):
        with pytest.raises(error):
            asyncio.run(taken(request([short] if short else [], ends=ends)))


async def test_only_the_part_of_that_name_counts() -> None:
    with pytest.raises(FormError) as caught:
        await taken(request([b'--xx\r\ncontent-disposition: form-data; name="other"\r\n\r\nx\r\n--xx--\r\n']))
    assert caught.value.kind is FormKind.MISSING


async def test_a_plain_field_has_no_file_name() -> None:
    sent = request([b'--xx\r\ncontent-disposition: form-data; name="file"\r\n\r\ntext\r\n--xx--\r\n'])
    assert await taken(sent) == ("application/octet-stream", None, b"text")


@pytest.mark.parametrize("kind", ["application/json", "", "multipart/form-data", "multipart/mixed; boundary=xx"])
async def test_what_is_no_form_is_told(kind: str) -> None:
    with pytest.raises(FormError) as caught:
        await taken(request([form(b"x")], kind))
    assert caught.value.kind is FormKind.NOT_A_FORM


async def test_a_second_part_of_the_name_is_refused() -> None:
    with pytest.raises(FormError) as caught:
        await taken(request([form(b"x").replace(b'"other"', b'"file"')]))
    assert caught.value.kind is FormKind.TWICE


async def test_what_stands_besides_the_file_is_bounded() -> None:
    for before, behind in ((bytes(2**20), b""), (b"", bytes(2**20))):
        pieces = cut(form(b"x", before, behind), list(range(0, 2**20, 60_000)))
        with pytest.raises(BodyError) as caught:
            await taken(request(pieces))
        assert caught.value.kind is Kind.TOO_LARGE


async def test_a_sender_that_falls_silent_is_given_up() -> None:
    clock = ManualClock()

    async def never() -> Any:
        await asyncio.Event().wait()

    sent = Request({"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=xx")]}, never)
    reading = asyncio.create_task(forms.part(sent, Body(sent, clock, 5)))
    await clock.until_waiting()
    await clock.advance(5)
    with pytest.raises(BodyError) as caught:
        await reading
    assert caught.value.kind is Kind.TOO_SLOW
