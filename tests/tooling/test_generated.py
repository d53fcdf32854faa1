"""What is committed but not written by hand: the vendored protos, the generated package, the locks."""

import importlib.resources
import json
import re
import tomllib
from pathlib import Path

import google.api
import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc import aio
from grpclib import GRPCError, Status
from grpclib.client import Channel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from turnwire.client.v1 import GetSessionRequest, SessionServiceStub
from turnwire.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
VENDORED = sorted((ROOT / "third_party").rglob("*.proto"))


@pytest.mark.parametrize("file", VENDORED, ids=lambda file: file.name)
def test_a_vendored_proto_is_the_installed_one(file: Path) -> None:
    installed = Path(google.api.__path__[0]).parents[1] / file.relative_to(ROOT / "third_party")
    assert file.read_bytes() == installed.read_bytes()


def test_the_installed_package_holds_every_proto_with_its_comments() -> None:
    data = importlib.resources.files("turnwire") / "data" / "descriptors.binpb"
    files = {file.name: file for file in FileDescriptorSet.FromString(data.read_bytes()).file}
    ours = {path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto").rglob("*.proto")}
    assert ours <= files.keys()
    for name in ours:
        assert any(location.leading_comments for location in files[name].source_code_info.location), name
        assert set(files[name].dependency) <= files.keys()


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    """Knows one session, and who asked."""

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: aio.ServicerContext
    ) -> session_pb2.Session:
        if request.name != "sessions/s1":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such session")
        return session_pb2.Session(name=request.name, display_name=dict(context.invocation_metadata())["authorization"])


async def test_the_dataclass_client_calls_a_grpc_server() -> None:
    server = aio.server()
    session_service_pb2_grpc.add_SessionServiceServicer_to_server(Sessions(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Channel("127.0.0.1", port) as channel:
            sessions = SessionServiceStub(channel)
            request = GetSessionRequest(name="sessions/s1")
            session = await sessions.get_session(request, metadata={"authorization": "Bearer K"}, timeout=10)
            assert (session.name, session.display_name) == ("sessions/s1", "Bearer K")
            with pytest.raises(GRPCError) as refused:
                await sessions.get_session(GetSessionRequest(name="sessions/s2"), timeout=10)
            assert refused.value.status is Status.NOT_FOUND
    finally:
        await server.stop(None)


def test_every_requirement_is_locked_at_a_version_that_it_allows() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name != project["project"]["name"]:
            assert requirement.specifier.contains(pins[name], prereleases=True), text


def test_every_locked_package_has_a_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for block in re.split(r"\n(?=\S)", lock):
        assert "--hash=sha256:" in block, block


def test_no_lock_names_a_host_to_download_from() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()
    node = json.loads((ROOT / "tests" / "clients" / "node" / "package-lock.json").read_text())
    for name, package in node["packages"].items():
        assert "resolved" not in package, name
        assert not name or package["integrity"]
