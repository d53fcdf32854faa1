"""The gRPC server as operators and stock tools meet it."""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.api import Api, prompt, refusal, serving
from turnwire.v1 import message_service_pb2, session_service_pb2
from turnwired.app.errors import StartError
from turnwired.app.grpcd import GrpcServer
from turnwired.config.settings import Settings
from turnwired.services.methods import SERVICES

BIN = Path(sys.executable).parent
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def api(sqlite_url):
    """The API over a socket."""
    async with serving(sqlite_url, "socket") as one:
        yield one


async def run(*command: str) -> tuple[int, str]:
    """Run a tool; gives its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def grpcurl(api: Api, *arguments: str) -> tuple[int, str]:
    options = [argument for argument in arguments if argument.startswith(("-", "{"))]
    rest = [argument for argument in arguments if argument not in options]
    return await run(str(BIN / "grpcurl"), "-plaintext", *options, api.address, *rest)


async def test_grpcurl_lists_describes_and_calls(api):
    code, listed = await grpcurl(api, "list")
    assert code == 0, listed
    assert {service.full_name for service in SERVICES} < set(listed.split())
    code, described = await grpcurl(api, "describe", "turnwire.v1.TurnService.Chat")
    assert code == 0
    assert "returns ( stream .turnwire.v1.WatchResponse )" in described
    code, made = await grpcurl(
        api, "-d", '{"session": {"displayName": "x"}}', "turnwire.v1.SessionService/CreateSession"
    )
    assert code == 0, made
    chat = json.dumps({"parent": json.loads(made)["name"], "message": {"parts": [{"text": {"text": "/say Hel|lo"}}]}})
    code, streamed = await grpcurl(api, "-d", chat, "turnwire.v1.TurnService/Chat")
    assert code == 0, streamed
    assert '"text": "Hel"' in streamed
    assert "STATE_SUCCEEDED" in streamed


async def test_grpcurl_shows_a_refusal_with_its_details(api):
    code, said = await grpcurl(api, "-d", '{"name": "sessions/none"}', "turnwire.v1.SessionService/GetSession")
    assert code == 64 + grpc.StatusCode.NOT_FOUND.value[0]
    assert "Session not found" in said
    assert '"reason":"SESSION_NOT_FOUND"' in said
    assert '"session":"sessions/none"' in said


async def test_grpcurl_asks_health_and_channelz(api):
    code, said = await grpcurl(api, "-d", '{"service": "turnwire.v1.TurnService"}', "grpc.health.v1.Health/Check")
    assert (code, json.loads(said)) == (0, {"status": "SERVING"})
    code, said = await grpcurl(api, "grpc.channelz.v1.Channelz/GetServers")
    assert code == 0, said
    assert "calls_started" in said


async def test_buf_curl_lists_and_calls_by_the_newer_reflection(api):
    buf = [str(BIN / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    code, listed = await run(*buf, "--list-methods", f"http://{api.address}")
    assert code == 0, listed
    assert "turnwire.v1.TurnService/Chat" in listed
    session = await api.session()
    body = json.dumps({"parent": session.name, "message": {"parts": [{"text": {"text": "/say Hel|lo"}}]}})
    code, said = await run(*buf, "-d", body, f"http://{api.address}/turnwire.v1.TurnService/Chat")
    assert code == 0, said
    assert "STATE_SUCCEEDED" in said


async def test_health_and_reflection_need_no_key_and_channelz_an_admins(api):
    _, admin = await api.key(scopes=["admin"])
    await until_closed(api)
    code, _ = await grpcurl(api, "-d", "{}", "grpc.health.v1.Health/Check")
    assert code == 0
    code, said = await grpcurl(api, "list")
    assert code == 0, said
    code, said = await grpcurl(api, "grpc.channelz.v1.Channelz/GetServers")
    assert code == 64 + grpc.StatusCode.UNAUTHENTICATED.value[0], said
    header = f"-H=authorization: {admin[0][1]}"
    code, said = await grpcurl(api, header, "grpc.channelz.v1.Channelz/GetServers")
    assert code == 0, said


async def until_closed(api: Api) -> None:
    """Wait until the first key has closed the server."""
    async with asyncio.timeout(5):
        while True:
            try:
                await api.sessions.ListSessions(session_service_pb2.ListSessionsRequest())
            except grpc.aio.AioRpcError:
                return


async def test_health_says_not_serving_while_draining_and_its_watches_end_with_the_server(sqlite_url):
    async with serving(sqlite_url, "socket") as api:
        server = GrpcServer(api.served, [], api.core.settings)
        (port,) = await server.start("127.0.0.1:0")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service="turnwire.v1.TurnService"))
            assert (await watch.read()).status == SERVING
            await server.drain()
            assert (await watch.read()).status == NOT_SERVING
            for service in ("", "turnwire.v1.SessionService"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == NOT_SERVING
            # With an hour of grace it stops at once: nothing is left to wait for.
            await asyncio.wait_for(server.stop(3_600), 10)
            assert await watch.read() is grpc.aio.EOF


async def test_it_listens_on_a_socket_file_and_on_several_addresses(sqlite_url, tmp_path):
    async with serving(sqlite_url, "socket") as api:
        server = GrpcServer(api.served, [], api.core.settings)
        port, _ = await server.start("127.0.0.1:0", f"unix:{tmp_path / 's'}")
        for address in (f"127.0.0.1:{port}", f"unix:{tmp_path / 's'}"):
            async with grpc.aio.insecure_channel(address) as channel:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert answer.status == SERVING
        await server.stop(0)


async def test_a_port_that_is_taken_keeps_it_from_starting(api):
    server = GrpcServer(api.served, [], api.core.settings)
    with pytest.raises(StartError, match=f"{api.address}: cannot listen"):
        await server.start(api.address)


async def test_a_large_message_comes_and_goes_and_one_over_the_limit_is_refused(sqlite_url):
    settings = Settings.model_validate({"limits": {"grpc_message_bytes": "5MiB", "page_bytes": "16MiB"}})
    async with serving(sqlite_url, "socket", settings) as api:
        session = await api.session()
        most = "x" * (4 * 1024 * 1024 - 1_000)
        create = message_service_pb2.CreateMessageRequest(parent=session.name, message=prompt("", most).message)
        create.message.role = 1
        size = 6 * 1024 * 1024
        async with grpc.aio.insecure_channel(
            api.address, options=[("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)]
        ) as channel:
            stub = type(api)(api.core, api.served, channel, api.address)
            made = await stub.messages.CreateMessage(create)
            assert made.parts[0].text.text == most
            create.message.parts[0].text.text = "x" * (5 * 1024 * 1024)
            told = await refusal(stub.messages.CreateMessage(create))
            assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_with_the_usual_limits_reads_every_page_and_frame(api):
    session = await api.session()
    for _ in range(3):
        message = prompt("", "x" * (3 * 1024 * 1024)).message
        message.role = 1
        create = message_service_pb2.CreateMessageRequest(parent=session.name, message=message)
        await api.messages.CreateMessage(create)
    request = message_service_pb2.ListMessagesRequest(parent=session.name)
    seen = 0
    while True:
        page = await api.messages.ListMessages(request)
        seen += len(page.messages)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == 3


async def test_metadata_over_its_limit_is_refused_and_costs_the_connection_nothing(api):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.session(metadata=(("x-long", "x" * 20_000),))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await api.session(metadata=(("x-long", "x" * 10_000),))).name
