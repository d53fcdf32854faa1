"""Which messages name an attachment, since when none does, and which uploads have not ended."""

from turnwired.store.db import Connection

STATEMENTS = (
    # Null: it belongs to a message, or messages name it.
    "ALTER TABLE attachment ADD COLUMN unused_us BIGINT",
    "CREATE INDEX attachment_unused ON attachment (unused_us) WHERE unused_us IS NOT NULL",
    "CREATE INDEX attachment_incomplete ON attachment (create_us) WHERE NOT complete",
    "CREATE INDEX attachment_by_message ON attachment (message) WHERE message IS NOT NULL",
    """CREATE TABLE attachment_use (
        session {text} NOT NULL, attachment {text} NOT NULL, message {text} NOT NULL,
        PRIMARY KEY (attachment, message))""",
    "CREATE INDEX attachment_use_by_message ON attachment_use (message)",
    "CREATE INDEX attachment_use_by_session ON attachment_use (session)",
)


def up(db: Connection) -> None:
    """Have Postgres keep the bytes as they are: most files are compressed already."""
    if db.postgres:
        db.run("ALTER TABLE attachment_chunk ALTER COLUMN data SET STORAGE EXTERNAL")
