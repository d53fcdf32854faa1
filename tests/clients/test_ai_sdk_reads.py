"""What the AI SDK makes of any stream and any list of ours: it reads both, and they show the same."""

import json

from hypothesis import HealthCheck, Phase, given, settings

from tests.clients.node_scripts import run
from tests.strategies import event_streams, whole_turns
from turnwire.v1.message_pb2 import Role
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.alumia.messages import record
from turnwired.dialects.alumia.stream import GENERIC_ERROR, Encoder
from turnwired.web import sse
from turnwired.web.jsonout import dumps

SOME = settings(
    max_examples=150,
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def examples(strategy):
    """Many at once: a process for each would take too long."""
    found = []

    @SOME
    @given(strategy)
    def keep(one):
        found.append(one)

    keep()
    return found


async def sdk_reads(turns, lists):
    """What the SDK reads of the turns' streams, and what it finds wrong with the lists."""
    asked = json.dumps({"streams": [streamed(events) for events in turns], "lists": lists})
    told = json.loads(await run("read-streams.mjs", stdin=asked.encode()))
    return told["messages"], told["lists"]


def streamed(events):
    encoder = Encoder()
    opening = sse.comment("stream-open")
    return (opening + b"".join(sse.encode(encoder.feed(event)) for event in events)).decode()


def listed(message):
    message.role = Role.ROLE_ASSISTANT
    return json.loads(dumps(record(message)))


def shown(part):
    """What a reader sees of a part. A file's name is in no chunk."""
    keys = ("type", "text", "output", "errorText", "url", "mediaType", "data", "toolCallId")
    kept = {key: part[key] for key in keys if key in part}
    return {**kept, "state": part["state"]} if "toolCallId" in part else kept


def calm(parts):
    """The parts but for steps and empty text, and calls that were cut in their input: no list shows those.

    JavaScript has no integers past 2^53, so all numbers are compared as it has them.
    """
    kept = [shown(part) for part in parts if part["type"] != "step-start" and part.get("text") != ""]
    kept = [part for part in kept if part.get("errorText") != "interrupted"]
    return json.loads(json.dumps(kept), parse_int=float)


async def test_the_sdk_reads_every_turn_and_shows_what_the_list_shows():
    turns = examples(whole_turns(waits=False))
    lists = [[listed(events[-2].message_created.message)] for events in turns]
    messages, wrong = await sdk_reads(turns, lists)
    assert wrong == [None] * len(lists)
    for events, read, (message,) in zip(turns, messages, lists, strict=True):
        assert "thrown" not in read, read
        bad = events[-1].turn_ended.turn.state in {Turn.STATE_FAILED, Turn.STATE_INTERRUPTED}
        assert read["failed"] == ([GENERIC_ERROR] if bad else []), read
        assert calm(read["message"]["parts"]) == calm(message["parts"]), (read, message)


async def test_the_sdk_reads_turns_that_wait():
    waiting = [events for events in examples(event_streams()) if any(one.HasField("turn_waiting") for one in events)]
    asked = [next(one.turn_waiting.message for one in events if one.HasField("turn_waiting")) for events in waiting]
    messages, wrong = await sdk_reads(waiting, [[listed(message)] for message in asked])
    assert wrong == [None] * len(waiting)
    assert [read["failed"] for read in messages] == [[]] * len(waiting)
