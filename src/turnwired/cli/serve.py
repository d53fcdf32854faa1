"""`turnwire serve`."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from turnwired.cli.common import (
    FAILED_EXIT,
    SETTINGS_EXIT,
    ConfigOption,
    DatabaseOption,
    Stop,
    configure_logs,
    fail,
    run,
    say,
    settings,
)

if TYPE_CHECKING:
    from turnwired.config.sources import Loaded

HttpOption = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="HOST:PORT",
        help="Where HTTP listens. Default: 127.0.0.1:8080. Port 0 takes a free one and prints it.",
        show_default=False,
    ),
]


def serve(
    *,
    http: HttpOption = None,
    grpc: Annotated[
        str | None,
        typer.Option(
            "--grpc",
            metavar="HOST:PORT",
            help="Where gRPC listens. Default: 127.0.0.1:50051. Port 0 takes a free one and prints it.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            metavar="HOST:PORT",
            help="Run the HTTP layer alone, before this gRPC server: no store and no gRPC port are opened.",
            show_default=False,
        ),
    ] = None,
    open_: Annotated[
        bool,
        typer.Option("--open", help="Serve beyond this machine without keys: whoever reaches it may do everything."),
    ] = False,
    dialects: Annotated[
        str | None,
        typer.Option(
            "--dialects", metavar="A,B", help="Dialects to serve. Default: all there are.", show_default=False
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            metavar="NAME",
            help="The namespace of callers without a key, while there are no keys. Default: default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the server: gRPC, the JSON gateway, the dialects and the agents, in one process.

    It stays in the foreground. SIGTERM or Ctrl-C lets running turns end (drain.wait, 20 s), then stops; a second one
    waits for nothing. What was written survives any end, `kill -9` too.
    """
    flags = {
        "http": http,
        "grpc": grpc,
        "database": database,
        "upstream": upstream,
        "open": open_ or None,
        "dialects": dialects,
        "namespace": namespace,
    }
    loaded = settings(flags, config)
    configure_logs(loaded)
    run(_serve(loaded))


async def _serve(loaded: "Loaded") -> None:
    from turnwired.app import garbage, surfaces  # noqa: PLC0415 (see main.py)
    from turnwired.app.banner import banner  # noqa: PLC0415
    from turnwired.app.build import running  # noqa: PLC0415
    from turnwired.app.errors import StartError  # noqa: PLC0415
    from turnwired.config.problems import SettingsError  # noqa: PLC0415

    if loaded.origin(("dialects",)) != "default" and (absent := surfaces.missing(loaded.settings)):
        fail(
            f"dialects ({loaded.origin(('dialects',))}): this version does not have {', '.join(absent)}",
            code=SETTINGS_EXIT,
        )
    stop = Stop()
    try:
        async with running(loaded.settings, env=os.environ) as server:
            stop.on_second = server.hurry
            garbage.calm()
            print(await banner(server, os.getpid()), end="\n\n", flush=True)
            await stop.first.wait()
        if server.late:
            # A thread that waits for a database that is gone would be waited for in turn.
            say(f"turnwire: did not stop in time: {', '.join(server.late)}")
            os._exit(FAILED_EXIT)
    except (StartError, SettingsError) as error:
        fail(*str(error).splitlines())
