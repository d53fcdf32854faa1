"""`turnwire migrate`."""

from typing import TYPE_CHECKING

from turnwired.cli.common import ConfigOption, DatabaseOption, configure_logs, fail, run, say, settings

if TYPE_CHECKING:
    from turnwired.config.settings import Settings


def migrate(database: DatabaseOption = None, config: ConfigOption = None) -> None:
    """Make the store, or bring it to this version's schema; `serve` does it at its start, too.

    It goes forward only, and one at a time: others wait. A store that a newer version migrated is refused.
    """
    loaded = settings({"database": database}, config)
    configure_logs(loaded, "warning")
    run(_migrate(loaded.settings))


async def _migrate(settings: "Settings") -> None:
    from turnwired.app.errors import StartError  # noqa: PLC0415 (see main.py)
    from turnwired.app.storage import migrated  # noqa: PLC0415
    from turnwired.store.db import Store  # noqa: PLC0415

    store = Store(settings.database.parsed, settings.database)
    store.open()
    try:
        applied = await migrated(store)
    except StartError as error:
        fail(str(error))
    finally:
        await store.close()
    for name in applied:
        print(name)
    say(f"{store.url}: {'migrated' if applied else 'up to date'}")
