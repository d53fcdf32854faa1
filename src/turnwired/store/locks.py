"""Locking the sessions of a group before all else: on Postgres; SQLite's writer holds the whole file."""

from collections.abc import Collection

from turnwired.store.db import Connection


def lock(db: Connection, wanted: Collection[str], spare: Collection[str]) -> set[str]:
    """Lock sessions: wait for those that are wanted, take of the spare ones what is free, and give the held ones.

    In sorted order: two replicas that lock many sessions in different orders would deadlock (core.md, 4.12). A spare
    session that is gone is not held: appends to it are refused, not kept for ever.
    """
    if wanted:
        db.all(f"SELECT id FROM session WHERE id IN ({_places(wanted)}) ORDER BY id FOR UPDATE", *sorted(wanted))
    others = sorted(set(spare) - set(wanted))
    if not others:
        return set()
    among = f"SELECT id FROM session WHERE id IN ({_places(others)})"
    free = {row[0] for row in db.all(f"{among} ORDER BY id FOR UPDATE SKIP LOCKED", *others)}
    return {row[0] for row in db.all(among, *others)} - free


def _places(ids: Collection[str]) -> str:
    return ",".join("?" * len(ids))
