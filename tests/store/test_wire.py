"""Bytes put together by hand are what protobuf writes."""

from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import event_pb2
from turnwired.store import wire

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=2_000)


@given(_TEXTS, _TEXTS)
def test_a_text_delta_put_together_by_hand_is_one(part: str, text: str) -> None:
    said = event_pb2.Event.FromString(wire.text_delta(part, text))
    assert said == event_pb2.Event(text_delta=event_pb2.TextDelta(part=part, text=text))


@given(_TEXTS, st.integers(1, 2**31), st.integers(1, 2**62))
def test_an_event_in_a_frame_is_the_event_with_its_cursor(text: str, generation: int, seq: int) -> None:
    body = event_pb2.Event(turn="t", text_delta=event_pb2.TextDelta(part="p1", text=text))
    frame = event_pb2.WatchResponse.FromString(wire.event(body.SerializeToString(), generation, seq))
    body.cursor = f"{generation}-{seq}"
    assert list(frame.events) == [body]
