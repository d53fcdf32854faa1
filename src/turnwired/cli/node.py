"""`turnwire node`."""

import asyncio
import contextlib
import logging
import os
import sys
from typing import Annotated

import typer

from turnwired.cli.common import SETTINGS_EXIT, Stop, fail, run, say
from turnwired.config.problems import SettingsError

_DEFAULT = "127.0.0.1:50051"


def node(
    *,
    entry: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:CALLABLE",
            help="An async generator function of one argument, the turn, importable from the working directory.",
        ),
    ],
    agent: Annotated[str, typer.Option(metavar="NAME", help="The agent that it answers as.")],
    server: Annotated[
        str, typer.Option(metavar="HOST:PORT", envvar="TURNWIRE_SERVER", help="The server's gRPC address.")
    ] = _DEFAULT,
    key: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            envvar="TURNWIRE_KEY",
            help="A key of the server with the scope node. Better in the environment: others see a command line.",
            show_default=False,
        ),
    ] = "",
    node_id: Annotated[
        str,
        typer.Option(
            "--id",
            metavar="ID",
            help="The node's own id: the same each time it runs, and no other's. Default: the host's and agent's name.",
            show_default=False,
        ),
    ] = "",
    capacity: Annotated[int, typer.Option(metavar="N", min=1, max=1_000, help="Turns that run at once.")] = 8,
    retry_safe: Annotated[
        bool,
        typer.Option("--retry-safe", help="A turn that said nothing yet may be run again by another node."),
    ] = False,
) -> None:
    """Serve an agent of a server from here: dial in, and answer its turns with a Python function.

    No port is opened. A broken connection is dialled again and turns go on where they were. Ctrl-C lets the turns that
    run end; a second one waits for none.
    """
    run(_node(entry, agent.removeprefix("agents/"), server, key, node_id, capacity, retry_safe=retry_safe))


async def _node(
    entry: str, agent: str, server: str, key: str, node_id: str, capacity: int, *, retry_safe: bool
) -> None:
    try:
        from turnwired.nodeclient import Node, Refused  # noqa: PLC0415 (see main.py)
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed: pip install 'turnwire[client]'")
    from turnwired.providers.python import load  # noqa: PLC0415

    if not server.rpartition(":")[2].isdecimal():
        fail(f"--server {server}: expected HOST:PORT", code=SETTINGS_EXIT)
    logging.basicConfig(stream=sys.stderr, level=os.environ.get("TURNWIRE_LOGGING__LEVEL", "warning").upper())
    try:
        answer = load(entry, "MODULE:CALLABLE")
    except SettingsError as error:
        fail(*error.problems, code=SETTINGS_EXIT)
    serving = Node({agent: answer}, node_id=node_id, capacity=capacity, retry_safe=retry_safe, key=key)
    serving.on_state = lambda text: say(f"{text} ({server})")
    stop = Stop()
    task = asyncio.create_task(serving.serve(server), name="turnwire-node")
    stop.on_second = lambda: _cancel(task)
    leaving = asyncio.create_task(stop.first.wait())
    await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    serving.leave()
    if serving.works and not task.done():
        say(f"turns that run, and are waited for: {len(serving.works)}")
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await task
        except Refused as refused:
            fail(str(refused))


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
