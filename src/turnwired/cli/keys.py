"""`turnwire keys`: made, listed and revoked in the store itself, beside a server or without one."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from turnwired.cli.common import (
    SETTINGS_EXIT,
    ConfigOption,
    DatabaseOption,
    configure_logs,
    fail,
    run,
    say,
    settings,
)

if TYPE_CHECKING:
    from turnwire.v1.key_pb2 import Key
    from turnwired.config.sources import Loaded
    from turnwired.eventlog.journal import Journal

app = typer.Typer(
    help="Make, list and revoke keys. With the first key the server is closed to callers without one, within a second.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Style(StrEnum):
    """How a key looks; any key works on any surface."""

    PLAIN = "plain"
    ALUMIA = "alumia"
    CORTEX = "cortex"
    LLAMACLOUD = "llamacloud"
    GUAYABA = "guayaba"
    HAPI = "hapi"


@app.command()
def create(
    *,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="The namespace that it acts in.")] = "default",
    scopes: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="What it may do: agent:read, agent:manage, chat, channels, files, node, admin, namespaces; "
            "* is all but namespaces. Default: chat,agent:read,agent:manage,files.",
            show_default=False,
        ),
    ] = "",
    style: Annotated[
        Style, typer.Option(help="How it looks. hapi gives the scope namespaces, too; else looks mean nothing.")
    ] = Style.PLAIN,
    agent: Annotated[
        str, typer.Option(metavar="AGENT", help="The one agent that it may use: echo or agents/echo. Default: any.")
    ] = "",
    expires: Annotated[
        str, typer.Option(metavar="SPAN", help="When it stops working: 12h, 30d. Default: never.", show_default=False)
    ] = "",
    name: Annotated[str, typer.Option(metavar="TEXT", help="A note for people.", show_default=False)] = "",
    rate: Annotated[int, typer.Option(metavar="N", min=0, help="Calls a minute; 0: as many as it likes.")] = 0,
    quota: Annotated[int, typer.Option(metavar="N", min=0, help="Tokens that its turns may use in all; 0: any.")] = 0,
    database: DatabaseOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it, alone, on standard output. It is shown this once: the store has its hash."""
    loaded = settings({"database": database}, config)
    configure_logs(loaded, "warning")
    seconds = _span(expires)

    from turnwire.v1.key_pb2 import Key  # noqa: PLC0415 (see main.py)

    key = Key(
        namespace=namespace,
        style=Key.Style.Value(f"STYLE_{style.name}"),
        scopes=[scope.strip() for scope in scopes.split(",") if scope.strip()],
        agent=_agent(agent),
        display_name=name,
        rate_per_minute=rate,
        token_quota=quota,
    )
    run(_create(loaded, key, seconds))


@app.command("list")
def list_keys(
    *,
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Only those of this namespace. Default: all.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    database: DatabaseOption = None,
    config: ConfigOption = None,
) -> None:
    """List the keys, newest first, revoked ones too. Of their secrets only the first 12 characters are known."""
    loaded = settings({"database": database}, config)
    configure_logs(loaded, "warning")
    run(_list(loaded, namespace, as_json=as_json))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID|PREFIX", help="The key's id, or its first 12 characters.")],
    database: DatabaseOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key stop working, within a second also at a server that runs. It cannot be undone."""
    loaded = settings({"database": database}, config)
    configure_logs(loaded, "warning")
    run(_revoke(loaded, key))


async def _create(loaded: "Loaded", key: "Key", seconds: float) -> None:
    from turnwired.clock import SystemClock  # noqa: PLC0415 (see main.py)
    from turnwired.rules.caller import Caller  # noqa: PLC0415
    from turnwired.store import keys  # noqa: PLC0415

    if seconds:
        key.expire_time.FromMicroseconds(SystemClock().now_us() + int(seconds * 1_000_000))
    async with _journal(loaded) as journal:
        first = not await journal.read(keys.any_keys)
        made = await journal.write(keys.create, Caller(key.namespace), key)
    print(made.secret, flush=True)
    say(f"{made.key.name}: namespace {made.key.namespace}, scopes {','.join(made.key.scopes)}")
    if made.key.agent:
        known = made.key.agent.removeprefix("agents/") in loaded.settings.agents
        say(f"for {made.key.agent} alone{'' if known else ', which the settings here do not have'}")
    if first:
        say("It is the first key: from now on every call needs one.")


async def _list(loaded: "Loaded", namespace: str, *, as_json: bool) -> None:
    from turnwire.v1.key_service_pb2 import ListKeysRequest  # noqa: PLC0415 (see main.py)
    from turnwired.rules.caller import Caller  # noqa: PLC0415
    from turnwired.store import keys  # noqa: PLC0415

    found: list[Key] = []
    async with _journal(loaded) as journal:
        request = ListKeysRequest(page_size=500)
        while True:
            page = await journal.read(keys.list_keys, Caller(namespace), request, any_namespace=not namespace)
            found.extend(page.keys)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    rows = [_row(key) for key in found]
    if as_json:
        json.dump(rows, sys.stdout, ensure_ascii=False, indent=2)
        print()
        return
    if not rows:
        say("There are no keys: the server is open, on this machine alone unless --open is said.")
        return
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    print("  ".join(f"{name:<{width}}" for name, width in widths.items()).rstrip())
    for row in rows:
        print("  ".join(f"{row[name]:<{width}}" for name, width in widths.items()).rstrip())


async def _revoke(loaded: "Loaded", key: str) -> None:
    from turnwire.v1.key_service_pb2 import RevokeKeyRequest  # noqa: PLC0415 (see main.py)
    from turnwired.rules.caller import Caller  # noqa: PLC0415
    from turnwired.store import keys  # noqa: PLC0415

    request = RevokeKeyRequest(name=key if key.startswith("keys/") else f"keys/{key}")
    async with _journal(loaded) as journal:
        revoked = await journal.write(keys.revoke, Caller(""), request, any_namespace=True)
    say(f"{revoked.name} ({revoked.prefix}…) works no more")


@asynccontextmanager
async def _journal(loaded: "Loaded") -> AsyncIterator["Journal"]:
    """The store, beside whoever serves it; a refusal ends the command."""
    from turnwired.app import storage  # noqa: PLC0415 (see main.py)
    from turnwired.app.drain import Ladder  # noqa: PLC0415
    from turnwired.app.errors import StartError  # noqa: PLC0415
    from turnwired.clock import SystemClock  # noqa: PLC0415
    from turnwired.errors import Fault  # noqa: PLC0415
    from turnwired.ids import RandomIds  # noqa: PLC0415

    clock = SystemClock()
    ladder = Ladder(clock)
    try:
        yield await storage.journal(loaded.settings, ladder, clock=clock, ids=RandomIds(), alone=False)
    except StartError as error:
        fail(str(error))
    except Fault as fault:
        fail(fault.text.removeprefix("key."))
    finally:
        await ladder.down()


def _span(text: str) -> float:
    if not text:
        return 0.0
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 (see main.py)

    from turnwired.config.values import Seconds  # noqa: PLC0415

    try:
        seconds: float = TypeAdapter(Seconds).validate_python(text)
    except ValidationError:
        fail(f"--expires {text}: expected seconds, or a number with m, h or d, such as 12h or 30d", code=SETTINGS_EXIT)
    if seconds <= 0:
        fail(f"--expires {text}: must be more than nothing", code=SETTINGS_EXIT)
    return seconds


def _agent(text: str) -> str:
    from turnwired.rules import names  # noqa: PLC0415 (see main.py)

    return text if not text or text.startswith("agents/") else names.agent(text)


def _row(key: "Key") -> dict[str, str]:
    from turnwire.v1.key_pb2 import Key  # noqa: PLC0415 (see main.py)

    state = "works"
    if key.HasField("revoke_time"):
        state = f"revoked {_day(key.revoke_time.ToMicroseconds())}"
    elif key.HasField("expire_time"):
        state = f"until {_day(key.expire_time.ToMicroseconds())}"
    return {
        "id": key.name.removeprefix("keys/"),
        "prefix": key.prefix,
        "namespace": key.namespace,
        "style": Key.Style.Name(key.style).removeprefix("STYLE_").lower(),
        "scopes": ",".join(key.scopes),
        "agent": key.agent,
        "made": _day(key.create_time.ToMicroseconds()),
        "state": state,
        "name": key.display_name,
    }


def _day(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1_000_000, UTC).strftime("%Y-%m-%d %H:%MZ")
