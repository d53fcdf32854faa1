"""The commands. Each imports what it needs when it runs: `--help` is not to wait for a gRPC library."""

from importlib.metadata import version
from typing import Annotated

import typer

from turnwired.cli import keys
from turnwired.cli.chat import chat
from turnwired.cli.doctor import doctor
from turnwired.cli.gateway import gateway
from turnwired.cli.migrate import migrate
from turnwired.cli.node import node
from turnwired.cli.serve import serve
from turnwired.cli.show import config

app = typer.Typer(
    name="turnwire",
    help="A chat-session server: sessions, messages and turns over gRPC, a JSON gateway and the AI SDK's stream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"turnwire {version('turnwire')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """A chat-session server: sessions, messages and turns over gRPC, a JSON gateway and the AI SDK's stream."""


app.command(short_help="Run the server.")(serve)
app.command(short_help="Make the store, or bring it to this version's schema.")(migrate)
app.add_typer(keys.app, name="keys", short_help="Make, list and revoke keys.")
app.command(short_help="Chat with an agent in the terminal.")(chat)
app.command(short_help="Serve an agent of a server from here, with a Python function.")(node)
app.command(short_help="Print the settings in force, and where each came from.")(config)
app.command(short_help="Look for what keeps a server from running well.")(doctor)
app.command(short_help="Run the JSON gateway alone, before any gRPC server.")(gateway)
