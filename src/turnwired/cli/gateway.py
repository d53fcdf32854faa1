"""`turnwire gateway`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnwired.cli.common import ConfigOption, Stop, configure_logs, fail, run, settings
from turnwired.cli.serve import HttpOption

if TYPE_CHECKING:
    from turnwired.config.sources import Loaded


def gateway(
    *,
    upstream: Annotated[
        str,
        typer.Option("--upstream", metavar="HOST:PORT", help="The gRPC server, any that has google.api.http options."),
    ],
    http: HttpOption = None,
    descriptors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A FileDescriptorSet with imports, as `buf build -o FILE --as-file-descriptor-set` writes it. "
            "Default: the server is asked, by reflection.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Run the JSON gateway alone, before any gRPC server whose methods carry google.api.http.

    Keys are the server's affair: the authorization header goes on as metadata. All paths are the gateway's.
    """
    loaded = settings({"upstream": upstream, "http": http}, config)
    configure_logs(loaded)
    run(_gateway(loaded, descriptors))


async def _gateway(loaded: "Loaded", descriptors: Path | None) -> None:
    from turnwired.app.apart import running  # noqa: PLC0415 (see main.py)
    from turnwired.app.errors import StartError  # noqa: PLC0415

    stop = Stop()
    try:
        async with running(loaded.settings, descriptors, env=os.environ) as alone:
            stop.on_second = alone.hurry
            print(f"turnwire gateway, process {os.getpid()}")
            print(f"  HTTP      http://{alone.address}")
            print(f"  upstream  {loaded.settings.upstream}")
            for route in alone.routes:
                print(f"  {route}")
            print(flush=True)
            await stop.first.wait()
    except StartError as error:
        fail(str(error))
