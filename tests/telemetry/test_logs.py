import asyncio
import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from turnwired.clock import ManualClock
from turnwired.telemetry import logs


@pytest.fixture
def stream():
    """Where lines go; what logging was before is put back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    config = structlog.get_config()
    quiet = {name: logging.getLogger(name).level for name in logs._QUIET}
    try:
        yield io.StringIO()
    finally:
        root.handlers[:], root.level = before, level
        for name, was in quiet.items():
            logging.getLogger(name).setLevel(was)
        structlog.configure(**config)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_and_logger(stream):
    logs.configure(ManualClock(), "json", "info", stream)
    logs.get("engine").info("turn ended", state="SUCCEEDED", deltas=3)
    (line,) = lines(stream)
    assert line == {
        "time": "2026-01-01T00:00:00.000Z",
        "level": "info",
        "event": "turn ended",
        "logger": "engine",
        "state": "SUCCEEDED",
        "deltas": 3,
    }
    assert list(line)[:4] == ["time", "level", "event", "logger"]


def test_a_logger_taken_before_logging_is_set_up_follows_it(stream):
    log = logs.get("early")
    logs.configure(ManualClock(), "json", "warning", stream)
    log.info("not shown")
    log.warning("shown")
    assert [line["event"] for line in lines(stream)] == ["shown"]


async def test_a_turns_lines_carry_its_session_also_in_tasks_it_starts(stream):
    logs.configure(ManualClock(), "json", "info", stream)
    log = logs.get("engine")

    async def run(session, turn):
        with logs.bound(session=session, turn=turn):
            await asyncio.sleep(0)
            log.info("one")
            await asyncio.create_task(inner())

    async def inner():
        log.info("two")

    await asyncio.gather(run("sessions/a", "t1"), run("sessions/b", "t2"))
    log.info("none")
    seen = [(line["event"], line.get("session"), line.get("turn")) for line in lines(stream)]
    assert sorted(seen[:-1]) == sorted(
        [
            ("one", "sessions/a", "t1"),
            ("two", "sessions/a", "t1"),
            ("one", "sessions/b", "t2"),
            ("two", "sessions/b", "t2"),
        ]
    )
    assert seen[-1] == ("none", None, None)


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({"authorization": "Bearer s3cret"}, ""),
        ({"access_token": "s3cret"}, ""),
        ({"headers": {"Cookie": "s3cret", "x": "1"}}, ""),
        ({"header": "Authorization: Bearer s3cret-s3cret"}, "Bearer "),
        ({"url": "postgresql://ann:s3cret@h/d"}, "postgresql://ann:"),
        ({"path": "/api/events?token=s3cret&all=1"}, "&all=1"),
        ({"list": ["tw_s3cret0123456789abcdef"]}, "tw_"),
        ({"text": "key alm_live_s3cret0123456789abcdef is bad"}, "is bad"),
        ({"jwt_text": "got eyJs3cret.eyJhIjoxfQ.abc"}, "got "),
    ],
)
def test_no_line_shows_a_secret(stream, facts, kept):
    logs.configure(ManualClock(), "json", "info", stream)
    logs.get("x").info("e", **facts)
    assert "s3cret" not in stream.getvalue()
    assert logs.MASK in stream.getvalue()
    assert kept in stream.getvalue()


def test_a_keys_prefix_and_ordinary_words_are_no_secrets(stream):
    logs.configure(ManualClock(), "json", "info", stream)
    facts = {
        "key_prefix": "tw_abcdefghi",
        "token_count": 3,
        "path": "/v1/sessions?page_size=1",
        "ratio": 0.5,
        "none": None,
    }
    logs.get("x").info("e", **facts)
    (line,) = lines(stream)
    assert {name: line[name] for name in facts} == facts


_PIECES = [
    "Bearer",
    "basic ",
    "://me:",
    "pw",
    "@",
    "?token=",
    "&KEY=",
    "tw_",
    "SK-",
    "g_master_",
    "eyJ",
    ".",
    "x" * 20,
    "\n",
]


@given(st.lists(st.sampled_from(_PIECES) | st.text("aB1 -=?", max_size=3), max_size=8).map("".join))
def test_a_plain_text_is_masked_like_one_that_is_not_ascii(text: str) -> None:
    # The latter is always held against every pattern; the former only if it may match.
    def shown(said: str) -> str:
        return str(logs.masked(None, "info", {"said": said})["said"])

    assert shown(f"é {text}") == f"é {shown(text)}"


def test_an_exception_is_written_without_its_secret(stream):
    logs.configure(ManualClock(), "json", "info", stream)

    def connect():
        raise RuntimeError("cannot \x1b[31m reach postgresql://ann:s3cret@h/d")

    try:
        connect()
    except RuntimeError:
        logs.get("x").exception("failed")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "RuntimeError" in line["exception"]
    assert "\n" in line["exception"]
    assert "\x1b" not in line["exception"]
    assert "s3cret" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_clients_text_starts_no_line_of_its_own(stream, form):
    logs.configure(ManualClock(), form, "info", stream)
    logs.get("x").info("e", path="/a\n2026 [error] forged \x1b[31m\u2028")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_long_value_is_cut(stream):
    logs.configure(ManualClock(), "json", "info", stream)
    logs.get("x").info("e", text="a" * 100_000)
    assert len(stream.getvalue()) < 20_000


def test_a_closed_stream_harms_nobody(stream):
    logs.configure(ManualClock(), "json", "info", stream)
    stream.close()
    logs.get("x").info("e")


def test_lines_of_libraries_come_out_in_the_same_form(stream):
    logs.configure(ManualClock(), "json", "info", stream)
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("slow %s", "?token=s3cret")
    logging.getLogger("some.library").info("hello")
    assert lines(stream) == [
        {
            "time": "2026-01-01T00:00:00.000Z",
            "level": "warning",
            "event": f"slow ?token={logs.MASK}",
            "logger": "uvicorn.error",
        },
        {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "hello", "logger": "some.library"},
    ]


def test_auto_is_json_where_there_is_no_terminal(stream):
    logs.configure(ManualClock(), "auto", "info", stream)
    logs.get("x").info("e")
    assert lines(stream)[0]["event"] == "e"


def test_auto_is_for_people_on_a_terminal(stream):
    stream.isatty = lambda: True
    logs.configure(ManualClock(), "auto", "info", stream)
    logs.get("x").info("turn ended", state="FAILED")
    assert "turn ended" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
