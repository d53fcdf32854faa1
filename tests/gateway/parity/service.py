"""The service of tests/golden/gateway/README.md, without generated code: its messages come from descriptors."""

import asyncio
from collections import Counter
from decimal import Decimal

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from tests.gateway.protos import Messages

PACKAGE = "turnwire.parity.v1"
SERVICE = f"{PACKAGE}.ParityService"


def pairs(texts):
    return [(key, value) for key, _, value in (text.partition("=") for text in texts)]


def binary(key, value):
    """grpcio wants bytes for a key that ends in -bin."""
    return (key, value.encode()) if key.endswith("-bin") else (key, value)


def metadata_of(texts):
    return tuple(binary(key, value) for key, value in pairs(texts))


class Parity:
    """Each method is named as its RPC."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._cut_short = Counter()

    def _new(self, name, **fields):
        return self._messages[f"{PACKAGE}.{name}"](**fields)

    def _routed(self, rpc, **saw):
        return self._new("Routed", rpc=rpc, saw=saw)

    async def EchoBody(self, request, context):
        return request

    EchoQuery = EchoPath = EchoField = PickField = CreateItem = UpdateItem = EchoBody

    async def DeleteItem(self, request, context):
        return self._messages["google.protobuf.Empty"]()

    async def GetItem(self, request, context):
        return self._routed("GetItem", name=request.name, view=request.view)

    async def UndeleteItem(self, request, context):
        force = str(request.force).lower()
        return self._routed("UndeleteItem", name=request.name, reason=request.reason, force=force)

    async def GetFile(self, request, context):
        return self._routed("GetFile", path=request.path, view=request.view)

    async def StatFile(self, request, context):
        return self._routed("StatFile", path=request.path, view=request.view)

    async def TailBook(self, request, context):
        return self._routed("TailBook", name=request.name, book=request.book, page=str(request.page))

    async def OrderLiteralFirst(self, request, context):
        return self._routed("OrderLiteralFirst", id=request.id, note=request.note)

    async def OrderVariableSecond(self, request, context):
        return self._routed("OrderVariableSecond", id=request.id, note=request.note)

    async def OrderVariableFirst(self, request, context):
        return self._routed("OrderVariableFirst", id=request.id, note=request.note)

    async def OrderLiteralSecond(self, request, context):
        return self._routed("OrderLiteralSecond", id=request.id, note=request.note)

    async def GetVerb(self, request, context):
        return self._routed("GetVerb", id=request.id, note=request.note)

    async def RunVerb(self, request, context):
        return self._routed("RunVerb", id=request.id, note=request.note)

    async def HeadThing(self, request, context):
        await context.send_initial_metadata((("x-thing", request.id),))
        return self._routed("HeadThing", id=request.id, note=request.note)

    async def _fail(self, context, request, details=(), trailing=()):
        """End a call with a status and its details, in one piece with the trailing metadata."""
        status = status_pb2.Status(code=request.code, message=request.message)
        for detail in details:
            if isinstance(detail, any_pb2.Any):
                status.details.add().CopyFrom(detail)
            else:
                status.details.add().Pack(detail)
        if details:
            trailing = (*trailing, ("grpc-status-details-bin", status.SerializeToString()))
        code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
        await context.abort(code, request.message, trailing)

    async def Fail(self, request, context):
        if request.set_header:
            await context.send_initial_metadata(metadata_of(request.set_header))
        trailing = metadata_of(request.set_trailer)
        if not request.code:
            context.set_trailing_metadata(trailing)
        else:
            await self._fail(context, request, self._details(request), trailing)
        return self._routed("Fail", message=request.message)

    def _details(self, request):
        details = []
        if request.reason:
            details.append(info(request.reason, request.metadata))
        if request.retry_ms:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(request.retry_ms)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if request.bad_fields:
            bad = error_details_pb2.BadRequest()
            for field in request.bad_fields:
                bad.field_violations.add(field=field, description=f"bad {field}")
            details.append(bad)
        if request.unknown_detail:
            details.append(any_pb2.Any(type_url=f"type.googleapis.com/{PACKAGE}.NotLinked", value=b"\x08\x01"))
        return details

    async def Meta(self, request, context):
        if request.set_header:
            await context.send_initial_metadata(metadata_of(request.set_header))
        context.set_trailing_metadata(metadata_of(request.set_trailer))
        reply = self._new("MetaReply")
        for wanted in request.want:
            values = [
                value.hex() if isinstance(value, bytes) else value
                for key, value in context.invocation_metadata()
                if key == wanted.lower()
            ]
            if values:
                reply.got.add(key=wanted.lower(), values=sorted(values))
        remaining = context.time_remaining()
        # grpcio reports a call without a deadline as one that is years away.
        if remaining is not None and remaining < 10**8:
            reply.has_deadline = True
            reply.deadline_seconds = int(Decimal(f"{remaining:.1e}"))
        return reply

    async def Slow(self, request, context):
        await self._wait(request)
        return self._new("SlowReply", finished=True, token=request.token)

    async def _wait(self, request, milliseconds=None):
        try:
            await asyncio.sleep((request.wait_ms if milliseconds is None else milliseconds) / 1000)
        except asyncio.CancelledError:
            if request.token:
                self._cut_short[request.token] += 1
            raise

    async def Cancelled(self, request, context):
        return self._new("CancelledReply", count=self._cut_short[request.token])

    def _http_body(self, content_type, data):
        return self._messages["google.api.HttpBody"](content_type=content_type, data=data)

    async def Download(self, request, context):
        return self._http_body(request.content_type, request.text.encode())

    async def Upload(self, request, context):
        text = request.file.data.decode()
        return self._new("UploadReply", folder=request.folder, content_type=request.file.content_type, text=text)

    async def Ticks(self, request, context):
        if request.set_header:
            await context.send_initial_metadata(metadata_of(request.set_header))
        trailing = metadata_of(request.set_trailer)
        details = [info(request.reason, {})] if request.reason else []
        fails = request.HasField("fail_after")
        for index in range(request.count):
            if fails and index == request.fail_after:
                await self._fail(context, request, details, trailing)
            if index:
                await self._wait(request, request.interval_ms)
            tick = self._new("Tick", index=index, text=request.text)
            if index % 2:
                tick.odd = index * 10**12
                tick.inner.name = f"n{index}"
                tick.color = 2
            else:
                tick.even = f"e{index}"
            yield tick
        if fails and request.fail_after >= request.count:
            await self._fail(context, request, details, trailing)
        context.set_trailing_metadata(trailing)

    TickTexts = Ticks

    async def DownloadStream(self, request, context):
        for index in range(request.count):
            yield self._http_body(request.content_type, f"{request.text}{index}".encode())


def info(reason, metadata):
    return error_details_pb2.ErrorInfo(reason=reason, domain="parity.turnwire", metadata=dict(metadata))


def handlers(messages: Messages, service: str, servicer) -> grpc.GenericRpcHandler:
    """The handlers of a servicer whose methods are named as the RPCs of a described service."""
    methods = {}
    for method in messages.pool.FindServiceByName(service).methods:
        handler = getattr(servicer, method.name, None)
        if handler is not None:
            make = (
                grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
            )
            reads, writes = messages[method.input_type.full_name], messages[method.output_type.full_name]
            methods[method.name] = make(handler, reads.FromString, writes.SerializeToString)
    return grpc.method_handlers_generic_handler(service, methods)


def reflected(messages: Messages, services: list[str], version: str) -> grpc.GenericRpcHandler:
    """grpcio's reflection of a pool, under the name of version `v1` or `v1alpha`: the messages are the same."""
    servicer = ReflectionServicer([*services, reflection.SERVICE_NAME], pool=messages.pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(
        f"grpc.reflection.{version}.ServerReflection", {"ServerReflectionInfo": handler}
    )
