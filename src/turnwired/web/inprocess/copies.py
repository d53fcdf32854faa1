"""What crosses the boundary between caller and handler is a private copy, without the codec where it is not needed."""

from google.protobuf.message import Message

from turnwired.web.inprocess.call import Deserializer, Request, Response, Serializer


def copied(message: Request) -> Request:
    """An equal message that shares nothing with `message`. What is no message, such as bytes, is given as it is."""
    if not isinstance(message, Message):
        return message
    twin = type(message)()
    twin.CopyFrom(message)
    return twin


def to_handler(request: Request, serialize: Serializer | None, deserialize: Deserializer | None) -> Request:
    """The caller's request, copied before, as the handler's class.

    Caller and handler may have different classes of one message: the gateway makes its own from descriptors.
    """
    if isinstance(request, Message) and _reads(deserialize) is type(request):
        return request
    data = serialize(request) if serialize else request
    return deserialize(data) if deserialize else data


def to_caller(response: Response, serialize: Serializer | None, deserialize: Deserializer | None) -> Response:
    """A copy of the handler's response, as the caller's class.

    A response may be a message, or an object whose `data` are the bytes of one, made once for many callers.
    """
    if isinstance(response, Message):
        if _reads(deserialize) is type(response):
            return copied(response)
        data = response.SerializeToString()
    elif isinstance(framed := getattr(response, "data", None), bytes):
        data = framed
    else:
        data = serialize(response) if serialize else response
    return deserialize(data) if deserialize else data


def _reads(deserialize: Deserializer | None) -> type[Message] | None:
    """The class whose `FromString` this is; None if it is any other function."""
    owner = getattr(deserialize, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, Message) and getattr(deserialize, "__name__", "") == "FromString":
        return owner
    return None
