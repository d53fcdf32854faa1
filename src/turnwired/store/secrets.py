"""Secrets that all processes over one store share."""

from turnwired.store.db import Connection
from turnwired.store.tx import Tx

TOKEN_KEY = "token-signing-key"  # noqa: S105 (a name, no secret)
"""The secret that signs the tokens of ExchangeToken."""


def find(db: Connection, name: str) -> bytes | None:
    """A secret; None if none of this name was made."""
    row = db.one("SELECT data FROM secret WHERE name = ?", name)
    return bytes(row[0]) if row else None


def get_or_create(tx: Tx, name: str, nbytes: int = 32) -> bytes:
    """A secret of `nbytes` bytes: the first process to ask makes it, all others get the same."""
    tx.db.run(
        "INSERT INTO secret (name, data) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, tx.ids.token_bytes(nbytes)
    )
    secret = find(tx.db, name)
    assert secret is not None
    return secret
