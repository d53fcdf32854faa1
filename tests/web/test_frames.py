import grpc
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from turnwire.v1.event_pb2 import Event, WatchResponse
from turnwired.rules.frames import Frame
from turnwired.services.interceptors.frames import FrameSerializer


def test_a_frame_holds_the_message_as_it_was():
    message = WatchResponse(events=[Event(cursor="c1")], cursor="c1")
    frame = Frame.of(message)
    message.cursor = "changed"
    assert frame.message() == WatchResponse(events=[Event(cursor="c1")], cursor="c1")
    assert repr(frame) == f"Frame(turnwire.v1.WatchResponse, {len(frame.data)} bytes)"


def test_each_message_of_a_frame_is_another():
    frame = Frame.of(StringValue(value="one"))
    frame.message().value = "changed"
    assert frame.message().value == "one"


def test_the_bytes_of_several_frames_make_one_with_all_their_events():
    frames = [Frame.of(WatchResponse(events=[Event(cursor=cursor)], cursor=cursor)) for cursor in ("c1", "c2")]
    joined = Frame(WatchResponse, b"".join(frame.data for frame in frames)).message()
    assert [event.cursor for event in joined.events] == ["c1", "c2"]
    assert joined.cursor == "c2"


def test_bytes_of_something_else_are_no_message():
    with pytest.raises(DecodeError):
        Frame(StringValue, b"\xff").message()


async def test_frames_go_out_as_they_are_and_all_else_through_the_handlers_serialiser():
    async def answer(request, context):
        return request

    made = []

    def serialize(message):
        made.append(message)
        return b"serialised"

    async def found(details):
        return grpc.unary_unary_rpc_method_handler(answer, None, serialize)

    handler = await FrameSerializer().intercept_service(found, None)
    assert handler.unary_unary is answer
    assert handler.response_serializer(Frame(StringValue, b"as it is")) == b"as it is"
    assert made == []
    assert handler.response_serializer(StringValue()) == b"serialised"


async def test_a_method_that_nobody_serves_stays_so():
    async def nothing(details):
        return None

    assert await FrameSerializer().intercept_service(nothing, None) is None
