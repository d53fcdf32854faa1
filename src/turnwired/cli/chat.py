"""`turnwire chat`."""

import os
import sys
from typing import Annotated

import typer

from turnwired.cli.common import fail, run, say

_DEFAULT = "127.0.0.1:50051"


def chat(
    *,
    server: Annotated[
        str, typer.Option(metavar="HOST:PORT", envvar="TURNWIRE_SERVER", help="The server's gRPC address.")
    ] = _DEFAULT,
    key: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            envvar="TURNWIRE_KEY",
            help="A key of the server. Better in the environment: others see a command line.",
            show_default=False,
        ),
    ] = "",
    session: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Go on with this session, sessions/ID or ID, and with the turn that runs in it. Default: a new one.",
            show_default=False,
        ),
    ] = "",
    agent: Annotated[
        str, typer.Option(metavar="AGENT", help="A new session's agent. Default: the server's.", show_default=False)
    ] = "",
) -> None:
    """Chat with an agent in the terminal.

    A line is a message. /stop ends the running turn; /approve and /deny WHY answer what it asks. /quit and Ctrl-C
    leave: the turn goes on without you, and --session brings you back to it. A server that restarts is waited for.
    """
    run(_chat(server, key, session, agent))


async def _chat(server: str, key: str, session: str, agent: str) -> None:
    import grpc  # noqa: PLC0415 (see main.py)

    from turnwired.cli.conversation import Conversation  # noqa: PLC0415
    from turnwired.cli.screen import Screen  # noqa: PLC0415
    from turnwired.cli.talk import Refused, Talk  # noqa: PLC0415
    from turnwired.cli.typed import Lines  # noqa: PLC0415
    from turnwired.clock import SystemClock  # noqa: PLC0415
    from turnwired.ids import RandomIds  # noqa: PLC0415

    if agent and not agent.startswith("agents/"):
        agent = f"agents/{agent}"
    colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    screen = Screen(sys.stdout, colors=colors)
    options = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ]
    async with grpc.aio.insecure_channel(server, options=options) as channel:
        talk = Talk(channel, key, SystemClock(), RandomIds())
        talk.on_away = lambda: say("(the server is away; waiting for it)")
        talk.on_back = lambda: say("(it is back)")
        conversation: Conversation = Conversation(talk, screen, Lines(sys.stdin.fileno()), typing=sys.stdin.isatty())
        try:
            await conversation.begin(session, agent)
            await conversation.go_on()
        except Refused as refused:
            fail(str(refused))
        finally:
            if talk.session:
                say(f"\nTo go on: turnwire chat --server {server} --session {talk.session.removeprefix('sessions/')}")
