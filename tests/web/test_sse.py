import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.sse_reader import Read, read
from turnwired.web import sse

NO_SURROGATES = st.characters(exclude_categories=["Cs"])
TEXT = st.text(NO_SURROGATES)
DATA = TEXT.map(lambda text: text.replace("\r", ""))
LINE = TEXT.map(lambda text: text.replace("\r", "").replace("\n", ""))
FRAMES = st.builds(sse.Frame, data=DATA, event=LINE, id=LINE.map(lambda text: text.replace("\0", "")))


@given(st.lists(FRAMES), LINE)
def test_a_conforming_reader_reads_back_what_was_said(frames, comment):
    events, comments, _ = read(sse.comment(comment) + sse.encode(frames))
    expected, last_id = [], ""
    for frame in frames:
        last_id = frame.id or last_id
        expected.append(Read(frame.data, frame.event or "message", last_id))
    assert events == expected
    assert comments == [" " + comment]


@given(st.lists(DATA))
def test_a_text_is_a_frame_of_nothing_but_data(texts):
    assert sse.encode(texts) == sse.encode([sse.Frame(text) for text in texts])


def test_a_frame_is_an_event_line_an_id_line_and_a_data_line():
    assert sse.Frame('{"a":1}').encode() == b'data: {"a":1}\n\n'
    assert sse.Frame("x", event="delta", id="AAEM").encode() == b"event: delta\nid: AAEM\ndata: x\n\n"
    assert sse.Frame("one\ntwo\n").encode() == b"data: one\ndata: two\ndata: \n\n"
    assert sse.Frame("").encode() == b"data: \n\n"


def test_comments_and_retry_times_dispatch_nothing():
    stream = sse.comment("keep-alive") + sse.retry(2000)
    assert stream == b": keep-alive\n\nretry: 2000\n\n"
    assert read(stream) == ([], [" keep-alive"], 2000)


def test_an_id_is_set_on_a_frame_or_a_text():
    assert sse.with_id("x", "7") == sse.Frame("x", id="7")
    assert sse.with_id(sse.Frame("x", "delta", "6"), "7") == sse.Frame("x", "delta", "7")


@pytest.mark.parametrize(
    "frame",
    [
        sse.Frame("a\rb"),
        sse.Frame("a", event="x\ny"),
        sse.Frame("a", id="x\ry"),
        sse.Frame("a", id="\0"),
        sse.Frame("\ud800"),
    ],
)
def test_what_no_frame_can_carry_is_refused(frame):
    with pytest.raises(ValueError, match=r"carriage return|line end|U\+0000|surrogates"):
        frame.encode()


def test_a_comment_of_two_lines_is_refused():
    with pytest.raises(ValueError, match="line end"):
        sse.comment("a\nb")
