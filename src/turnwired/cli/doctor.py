"""`turnwire doctor`."""

import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Final, NamedTuple

import typer

from turnwired.cli.common import FAILED_EXIT, ConfigOption, DatabaseOption, configure_logs, run, settings

if TYPE_CHECKING:
    from turnwired.config.settings import Settings
    from turnwired.config.sources import Loaded
    from turnwired.config.values import Address

_PYTHON: Final = (3, 11)
_LOW: Final = 1024**3
_TOO_LOW: Final = 100 * 1024**2


class Finding(NamedTuple):
    """What was looked at, and how it is: `ok`, `warn` or `fail`."""

    level: str
    what: str
    remedy: str = ""


def doctor(*, database: DatabaseOption = None, config: ConfigOption = None) -> None:
    """Look for what keeps a server from running well: a line each, ok, warn or fail, with what to do.

    It changes nothing, and makes no store. It ends with 1 if something fails.
    """
    loaded = settings({"database": database}, config)
    configure_logs(loaded, "error")
    findings = run(_look(loaded))
    for finding in findings:
        print(f"{finding.level:<4}  {finding.what}" + (f"\n      -> {finding.remedy}" if finding.remedy else ""))
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(FAILED_EXIT)


async def _look(loaded: "Loaded") -> list[Finding]:
    chosen = loaded.settings
    findings = [*_program(), Finding("ok", f"settings: {loaded.file or 'no file'}"), *_dialects(loaded)]
    findings += _disk(chosen)
    findings += await _store(chosen)
    findings += _models(chosen)
    return findings


def _program() -> Iterator[Finding]:
    release = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _PYTHON:
        yield Finding("fail", f"Python {release}", "install Python 3.11 or newer")
    else:
        yield Finding("ok", f"Python {release}")
    missing = [name for name in _needed() if not _installed(name)]
    if missing:
        yield Finding("fail", f"packages: without {', '.join(missing)}", "install turnwire again, with what it needs")
        return
    try:
        from turnwire.v1 import turn_pb2, turn_service_pb2_grpc  # noqa: F401, PLC0415 (to see that they can be)
    except Exception as error:  # noqa: BLE001 (whatever keeps generated code from loading is what is looked for)
        yield Finding("fail", f"packages: {error}", "install turnwire again: its generated code needs newer packages")
        return
    yield Finding("ok", f"packages: turnwire {version('turnwire')}, grpcio {version('grpcio')}")


def _needed() -> Iterator[str]:
    for line in requires("turnwire") or ():
        if "extra ==" not in line and (found := re.match(r"[A-Za-z0-9._-]+", line)):
            yield found[0]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _dialects(loaded: "Loaded") -> Iterator[Finding]:
    from turnwired.app import surfaces  # noqa: PLC0415 (see main.py)

    missing = ", ".join(surfaces.missing(loaded.settings))
    if missing and loaded.origin(("dialects",)) != "default":
        yield Finding("fail", f"dialects: this version does not have {missing}", "take them out of the setting")


def _disk(chosen: "Settings") -> Iterator[Finding]:
    url = chosen.database.parsed
    if url.kind != "sqlite" or url.is_memory:
        return
    folder = Path(url.path).resolve().parent
    if not folder.is_dir():
        yield Finding("fail", f"store: the folder {folder} is not there", f"mkdir -p {folder}")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("fail", f"store: nothing may be written in {folder}", "serve as who owns it, or choose another")
    free = disk_usage(folder).free
    shown = f"disk: {free / 1024**3:.1f} GiB free at {folder}"
    if free < _TOO_LOW:
        yield Finding("fail", shown, "make room: a full disk refuses every turn")
    else:
        yield Finding("ok" if free >= _LOW else "warn", shown, "" if free >= _LOW else "make room soon")


async def _store(chosen: "Settings") -> list[Finding]:
    from turnwired.app import storage  # noqa: PLC0415 (see main.py)
    from turnwired.app.errors import StartError  # noqa: PLC0415
    from turnwired.store import lockfile  # noqa: PLC0415

    url = chosen.database.parsed
    try:
        seen = await storage.look(chosen)
    except StartError as error:
        return [Finding("fail", f"store: {error}", _store_remedy(chosen))]
    if seen.version > seen.wanted:
        what = f"store: {url} has schema {seen.version}, and this version knows up to {seen.wanted}"
        return [Finding("fail", what, "run the turnwire that migrated it, or a newer one")]
    if seen.version == 0:
        findings = [Finding("ok", f"store: {url}, made at the first start")]
    elif seen.version < seen.wanted:
        what = f"store: {url} has schema {seen.version} of {seen.wanted}"
        findings = [Finding("warn", what, "turnwire migrate; the next start of serve does it, too")]
    else:
        findings = [Finding("ok", f"store: {url}, schema {seen.version}")]
    holder = lockfile.holder(url)
    if holder is not None:
        findings.append(Finding("ok", f"lock: process {holder or '(unknown)'} serves this store"))
    return [*findings, *_ports(chosen, serving=holder is not None), *_access(chosen, keys=seen.keys)]


def _store_remedy(chosen: "Settings") -> str:
    if chosen.database.parsed.kind == "postgresql":
        return "is Postgres up, and are host, user, password and database right?"
    return "is it a SQLite file, and may you read and write it and its folder?"


def _ports(chosen: "Settings", *, serving: bool) -> Iterator[Finding]:
    listens = {"grpc": chosen.grpc.address}
    if chosen.http.enabled:
        listens = {"http": chosen.http.address, **listens}
    for name, address in listens.items():
        wrong = _taken(address)
        if not wrong:
            yield Finding("ok", f"port: {name} {address} is free")
        elif serving:
            yield Finding("ok", f"port: {name} {address} is taken, and a server runs")
        else:
            yield Finding("fail", f"port: {name} {address}: {wrong}", f"end what has it, or --{name} with another port")


def _taken(address: "Address") -> str:
    from turnwired.app import httpd  # noqa: PLC0415 (see main.py)
    from turnwired.app.errors import StartError  # noqa: PLC0415

    try:
        httpd.bind(address).close()
    except StartError as error:
        return str(error).partition(": ")[2]
    return ""


def _access(chosen: "Settings", *, keys: bool) -> Iterator[Finding]:
    beyond = [str(one) for one in (chosen.http.address, chosen.grpc.address) if not one.is_loopback]
    if keys:
        yield Finding("ok", "access: with a key")
    elif not beyond:
        yield Finding("ok", "access: there are no keys; open on this machine alone")
    elif chosen.open:
        yield Finding("warn", f"access: OPEN to whoever reaches {', '.join(beyond)}", "turnwire keys create")
    else:
        what = f"access: there are no keys, and {', '.join(beyond)} can be reached from elsewhere"
        yield Finding("fail", what, "turnwire keys create, or --open")


def _models(chosen: "Settings") -> Iterator[Finding]:
    from turnwired.config.found import found_models  # noqa: PLC0415 (see main.py)

    names = ", ".join(name for name, agent in chosen.agents.items() if agent.enabled)
    yield Finding("ok", f"agents: {names}; {chosen.default_agent} is the default")
    model = chosen.agents.get("model")
    if model is None and not found_models(os.environ):
        yield Finding("ok", "model: none; OPENAI_API_KEY, OPENAI_BASE_URL or another provider's variable brings one")
    for name, agent in chosen.agents.items():
        variable = getattr(agent, "api_key_env", "")
        if variable and not os.environ.get(variable):
            yield Finding("fail", f"agents.{name}: {variable} is not set", f"export {variable}=...")
        if agent.kind == "model" and not _installed("pydantic-ai-slim"):
            yield Finding("fail", f"agents.{name}: pydantic-ai is not installed", "pip install 'turnwire[model]'")
