"""Descriptors from a server's reflection service, of either version."""

from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.gateway.parity.service import SERVICE, reflected
from tests.gateway.stack import descriptors, parity, parity_messages
from turnwired.gateway import Descriptors, routes_text


@asynccontextmanager
async def server(*served):
    found = grpc.aio.server()
    found.add_generic_rpc_handlers(served)
    port = found.add_insecure_port("127.0.0.1:0")
    await found.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await found.stop(None)


class OneFileAtATime:
    """A reflection service that answers with the file asked for and leaves its imports to further questions."""

    def __init__(self, files, *, knows_imports=True, wrong=""):
        self._files = {file.name: file for file in files}
        self._knows_imports, self._wrong = knows_imports, wrong

    async def ServerReflectionInfo(self, requests, context):
        async for request in requests:
            answer = reflection_pb2.ServerReflectionResponse()
            match request.WhichOneof("message_request"):
                case "list_services":
                    for name in (SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"):
                        answer.list_services_response.service.add(name=name)
                case "file_containing_symbol":
                    self._give(answer, "parity.proto")
                case "file_by_filename" if self._knows_imports:
                    self._give(answer, self._wrong or request.file_by_filename)
                case _:
                    answer.error_response.error_code = 5
            yield answer

    def _give(self, answer, name):
        answer.file_descriptor_response.file_descriptor_proto.append(self._files[name].SerializeToString())

    def handler(self, version="v1"):
        method = grpc.stream_stream_rpc_method_handler(
            self.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        service = f"grpc.reflection.{version}.ServerReflection"
        return grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method})


FILES = descriptor_pb2.FileDescriptorSet.FromString(parity()).file


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_the_routes_are_those_of_the_file(version):
    async with server(reflected(parity_messages(), [SERVICE], version)) as channel:
        found = await Descriptors.from_reflection(channel)
    assert routes_text(found) == routes_text(descriptors(parity()))


async def test_a_server_may_answer_with_one_file_at_a_time_and_offer_the_runtimes_own_services():
    async with server(OneFileAtATime(FILES).handler()) as channel:
        found = await Descriptors.from_reflection(channel)
    assert routes_text(found) == routes_text(descriptors(parity()))


async def test_a_server_that_does_not_know_its_own_imports_is_an_error():
    async with server(OneFileAtATime(FILES, knows_imports=False).handler()) as channel:
        with pytest.raises(LookupError, match="file_by_filename"):
            await Descriptors.from_reflection(channel)


async def test_a_server_that_gives_another_file_than_asked_for_is_an_error():
    async with server(OneFileAtATime(FILES, wrong="parity.proto").handler()) as channel:
        with pytest.raises(LookupError, match="another file for google/"):
            await Descriptors.from_reflection(channel)


class Broken(OneFileAtATime):
    """A reflection service whose files are not what they should be."""

    def __init__(self, data):
        super().__init__(FILES)
        self._data = data

    def _give(self, answer, name):
        answer.file_descriptor_response.file_descriptor_proto.append(self._data)


ODD = descriptor_pb2.FileDescriptorProto(
    name="parity.proto",
    message_type=[{"name": "M", "field": [{"name": "f", "number": 1, "type": 11, "type_name": ".none.Such"}]}],
)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\xff\xff", "with what is no file"), (ODD.SerializeToString(), "do not fit together: .*none.Such")],
)
async def test_a_server_whose_files_cannot_be_used_is_an_error(data, said):
    async with server(Broken(data).handler()) as channel:
        with pytest.raises(LookupError, match=said):
            await Descriptors.from_reflection(channel)


async def test_a_server_without_reflection_says_so():
    async with server() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Descriptors.from_reflection(channel)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_that_is_not_there_says_so_in_time():
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Descriptors.from_reflection(channel, 2.0)
    assert raised.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_a_set_without_its_imports_is_refused():
    with pytest.raises(TypeError, match="google/"):
        Descriptors([file for file in FILES if file.name == "parity.proto"])


def test_a_file_is_read_as_protoc_writes_it(tmp_path):
    (tmp_path / "set").write_bytes(parity())
    assert routes_text(Descriptors.from_file(tmp_path / "set")) == routes_text(descriptors(parity()))
