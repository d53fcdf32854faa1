"""`turnwire config`."""

import json
import sys
from typing import Annotated

import typer

from turnwired.cli.common import ConfigOption, say, settings


def config(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with what each setting means.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not a default.")] = False,
) -> None:
    """Print the settings in force: each with its value and where that came from. Secrets are masked.

    Flags win over the environment (TURNWIRE_TURNS__DURATION=5m), that over the file ([turns] duration = "5m"), and that
    over the defaults.
    """
    from turnwired.config.explain import explain  # noqa: PLC0415 (see main.py)

    loaded = settings(None, config)
    rows = [row for row in explain(loaded) if not changed or row.source != "default"]
    if as_json:
        shown = [{"setting": row.setting, "value": row.value, "source": row.source, "about": row.about} for row in rows]
        json.dump(shown, sys.stdout, ensure_ascii=False, indent=2)
        print()
        return
    names = max((len(row.setting) for row in rows), default=0)
    values = min(40, max((len(row.value) for row in rows), default=0))
    for row in rows:
        print(f"{row.setting:<{names}}  {row.value:<{values}}  {row.source}")
    say(f"file: {loaded.file or 'none'}")
