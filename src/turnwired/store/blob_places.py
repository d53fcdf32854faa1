"""Which place a store keeps attachments' bytes in."""

from pathlib import Path

from turnwired.ids import Ids
from turnwired.store.blobs import Blobs
from turnwired.store.chunks import Chunks
from turnwired.store.db import Store
from turnwired.store.files import Files


def place_of(store: Store, ids: Ids) -> Blobs:
    """Files in `<database>.files/` beside an SQLite file; rows on Postgres and in memory."""
    if store.db.postgres or store.db.memory:
        return Chunks(store, ids)
    # Two paths to one database are one database.
    return Files(Path(f"{Path(store.url.path).resolve()}.files"), ids)
