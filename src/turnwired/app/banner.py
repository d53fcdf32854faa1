"""What `serve` says once it listens."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from turnwire.v1.agent_pb2 import Agent
from turnwired.app.build import Server
from turnwired.app.tries import Tries, reachable
from turnwired.web.calls import Refusal

_WIDTH: Final = 10


async def banner(server: Server, pid: int) -> str:
    """Where it listens, what it has, who may come in, and what to try next. No password is in it."""
    try:
        is_open: bool | None = await server.is_open()
    except Refusal:
        is_open = None
    rows = [
        ("HTTP", f"http://{server.http_address}" if server.http_address is not None else "off"),
        ("gRPC", str(server.grpc_address) + ("" if server.core is not None else " (upstream)")),
        ("store", str(server.settings.database.parsed) if server.core is not None else "the upstream's"),
        ("agents", _agents(server.agents) if server.core is not None else "the upstream's"),
        ("dialects", _dialects(server)),
        ("access", _access(server, is_open)),
    ]
    lines = [f"turnwire {version('turnwire')}, process {pid}"]
    lines += [f"  {name:<{_WIDTH}}{text}" for name, text in rows if text]
    lines += ["Try:", *(f"  {line}" for line in _tries(server, closed=is_open is False))]
    return "\n".join(lines)


def _agents(agents: Sequence[Agent]) -> str:
    return ", ".join(
        agent.agent_id
        + (" (default)" if agent.default else "")
        + ("" if agent.availability == Agent.AVAILABILITY_ONLINE else " (offline)")
        for agent in agents
    )


def _dialects(server: Server) -> str:
    return ", ".join(dialect.name for dialect in server.dialects) or "none"


def _access(server: Server, is_open: bool | None) -> str:
    if is_open is None:
        return "not known: the upstream does not answer"
    if not is_open:
        return "with a key"
    if server.settings.open:
        return "OPEN to whoever reaches this machine: there are no keys, and --open was said"
    return "open on this machine alone: there are no keys (turnwire keys create)"


def _tries(server: Server, *, closed: bool) -> list[str]:
    if server.http_address is None:
        return [Tries("", server.grpc_address, closed).chat()]
    tries = Tries(f"http://{reachable(server.http_address)}", server.grpc_address, closed)
    # The line for grpcurl takes the session that the one for curl made.
    return [tries.curl(), tries.grpcurl(), tries.chat()]
