"""The tables. Migrations make them; this module says what is in them. Times are microseconds since 1970, UTC.

A `data` column holds the resource as its serialised message, whole; the columns beside it are what queries, locks and
constraints need of it, and are written with it. `rows.py` is the only place that turns one into the other.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Self

from peewee import BigIntegerField, BlobField, BooleanField, CompositeKey, IntegerField, Model, TextField

if TYPE_CHECKING:
    from turnwired.store.db import Connection


class Table(Model):
    """The base of all tables. No table is bound to a database: each query is executed on one that it is given.

    `fetch`, `one` and `add` are for the transactions that every turn makes: Peewee's builder takes ten times as long to
    write a statement as SQLite does to run it, and the writer's thread holds the GIL meanwhile.
    """

    @classmethod
    def fetch(cls, db: "Connection", where: str, *params: object) -> list[Self]:
        """The rows that a condition of our own takes, written with `?`."""
        names, select, _ = _statements(cls)
        return [cls._made(names, values) for values in db.all(select + where, *params)]

    @classmethod
    def one(cls, db: "Connection", where: str, *params: object) -> Self | None:
        """The first of them, or None."""
        found = cls.fetch(db, where, *params)
        return found[0] if found else None

    def add(self, db: "Connection") -> None:
        """Insert the row; every column that has no default is set."""
        names, _, insert = _statements(type(self))
        db.run(insert, *[self.__data__.get(name) for name in names])

    @classmethod
    def _made(cls, names: tuple[str, ...], values: tuple[Any, ...]) -> Self:
        row = cls(__no_default__=1)
        row.__data__.update(zip(names, values, strict=True))
        return row


class SessionRow(Table):
    """A session. Whoever changes anything of a session holds this row's lock first (decisions.md, D2)."""

    id: Any = TextField(primary_key=True)
    namespace: Any = TextField()
    number: Any = BigIntegerField(unique=True)
    owner: Any = TextField()
    agent: Any = TextField()
    state: Any = IntegerField()
    origin: Any = TextField()
    pending: Any = IntegerField(default=0)
    create_us: Any = BigIntegerField()
    update_us: Any = BigIntegerField()
    touch_us: Any = BigIntegerField()  # moves with every event but deltas and parts: what a namespace's watchers poll
    delete_us: Any = BigIntegerField(null=True)
    purge_us: Any = BigIntegerField(null=True)
    archive_us: Any = BigIntegerField(null=True)
    version: Any = BigIntegerField(default=1)  # the etag
    head: Any = BigIntegerField(default=0)  # the log's last seq
    generation: Any = BigIntegerField(default=1)
    compacted_seq: Any = BigIntegerField(default=0)  # up to here parts and deltas may be missing from the log
    blanked_seq: Any = BigIntegerField(default=0)  # up to here a truncation took text out of the log
    message_us: Any = BigIntegerField(default=0)  # create_time of the newest message: the next one is later
    fence_turn: Any = TextField(null=True)  # the one turn that may append to the log, and its claim
    fence_attempt: Any = IntegerField(default=0)
    purged: Any = BooleanField(default=False)  # nothing of it is left but the end of its log, for who follows it
    data: Any = BlobField()

    class Meta:
        table_name = "session"


class LabelRow(Table):
    """One label of a session, for filters."""

    session: Any = TextField()
    key: Any = TextField()
    namespace: Any = TextField()
    value: Any = TextField()

    class Meta:
        table_name = "session_label"
        primary_key = CompositeKey("session", "key")


class AliasRow(Table):
    """Another name of a session: unique in (namespace, scope, value, agent) while it is held."""

    session: Any = TextField()
    scope: Any = TextField()
    namespace: Any = TextField()
    value: Any = TextField()
    agent: Any = TextField(default="")
    hold: Any = IntegerField()
    held: Any = BooleanField(default=True)

    class Meta:
        table_name = "session_alias"
        primary_key = CompositeKey("session", "scope", "value")


class MessageRow(Table):
    """A message. `number` is its place in the conversation, `seq` among the final ones (null: not final yet)."""

    id: Any = TextField(primary_key=True)
    session: Any = TextField()
    number: Any = BigIntegerField(unique=True)
    seq: Any = BigIntegerField(null=True)
    role: Any = IntegerField()
    state: Any = IntegerField()
    client_id: Any = TextField(null=True)
    turn: Any = TextField(null=True)
    has_content: Any = BooleanField(default=False)
    create_us: Any = BigIntegerField()
    data: Any = BlobField()

    class Meta:
        table_name = "message"


class TurnRow(Table):
    """A turn. One of a session may be RUNNING or AWAITING_INPUT: a unique index holds it."""

    id: Any = TextField(primary_key=True)
    session: Any = TextField()
    namespace: Any = TextField()
    number: Any = BigIntegerField(unique=True)
    state: Any = IntegerField()
    attempt: Any = IntegerField(default=0)
    agent: Any = TextField()
    request_id: Any = TextField(null=True)
    digest: Any = BlobField()
    input_message: Any = TextField(null=True)
    output_message: Any = TextField()
    owner: Any = TextField(null=True)  # the process that has the lease
    lease_us: Any = BigIntegerField(null=True)  # when the lease ends
    deadline_us: Any = BigIntegerField(null=True)  # when waiting in the queue, or for an answer, ends
    spoke: Any = BooleanField(default=False)  # whether any attempt committed output
    first_seq: Any = BigIntegerField(default=0)  # its first event
    last_seq: Any = BigIntegerField(default=0)  # its last event, once it is over
    compacted: Any = BooleanField(default=False)
    end_us: Any = BigIntegerField(null=True)
    data: Any = BlobField()
    trace: Any = TextField(null=True)  # the `traceparent` of the call that had it run

    class Meta:
        table_name = "turn"


class EventRow(Table):
    """What one commit added to one session's log: events `first_seq` to `last_seq`, as a frame's bytes."""

    session: Any = TextField()
    last_seq: Any = BigIntegerField()
    first_seq: Any = BigIntegerField()
    turn: Any = TextField(null=True)
    coarse: Any = BooleanField()  # whether any of them is more than a delta, part or step
    time_us: Any = BigIntegerField()
    data: Any = BlobField()

    class Meta:
        table_name = "event"
        primary_key = CompositeKey("session", "last_seq")


class KeyRow(Table):
    """A key, by the SHA-256 of its secret."""

    id: Any = TextField(primary_key=True)
    namespace: Any = TextField()
    hash: Any = BlobField(unique=True)
    prefix: Any = TextField()
    create_us: Any = BigIntegerField()
    expire_us: Any = BigIntegerField(null=True)
    revoke_us: Any = BigIntegerField(null=True)
    tokens_used: Any = BigIntegerField(default=0)
    data: Any = BlobField()

    class Meta:
        table_name = "api_key"


class AttachmentRow(Table):
    """An attachment. Its bytes are in a file beside SQLite, or in `attachment_chunk`."""

    id: Any = TextField(primary_key=True)
    session: Any = TextField()
    message: Any = TextField(null=True)
    slot: Any = TextField(null=True)
    size: Any = BigIntegerField()
    complete: Any = BooleanField(default=False)
    create_us: Any = BigIntegerField()  # of one that is still being received: when it was last heard of
    data: Any = BlobField()
    unused_us: Any = BigIntegerField(null=True)  # since when no message has it or names it

    class Meta:
        table_name = "attachment"


class AttachmentUseRow(Table):
    """A message of the session that names an attachment."""

    session: Any = TextField()
    attachment: Any = TextField()
    message: Any = TextField()

    class Meta:
        table_name = "attachment_use"
        primary_key = CompositeKey("attachment", "message")


class ChunkRow(Table):
    """A piece of an attachment's bytes, by the offset at which it begins."""

    attachment: Any = TextField()
    offset: Any = BigIntegerField(column_name="start")
    data: Any = BlobField()

    class Meta:
        table_name = "attachment_chunk"
        primary_key = CompositeKey("attachment", "offset")


class NodeRow(Table):
    """A node that ever dialled in, in its namespace."""

    namespace: Any = TextField()
    id: Any = TextField()
    owner: Any = TextField(null=True)  # its connection, `process:number`; null: it broke; empty: the node went away
    seen_us: Any = BigIntegerField()
    data: Any = BlobField()

    class Meta:
        table_name = "node"
        primary_key = CompositeKey("namespace", "id")


class NodeAgentRow(Table):
    """An agent that nodes of a namespace serve or served, by its id (unescaped), as the newest of them described it."""

    namespace: Any = TextField()
    id: Any = TextField()
    seen_us: Any = BigIntegerField()
    data: Any = BlobField()

    class Meta:
        table_name = "node_agent"
        primary_key = CompositeKey("namespace", "id")


class SessionNodeRow(Table):
    """A node attached to a session; `position` is the order of attaching."""

    session: Any = TextField()
    node: Any = TextField()
    position: Any = BigIntegerField()
    data: Any = BlobField()

    class Meta:
        table_name = "session_node"
        primary_key = CompositeKey("session", "node")


class SecretRow(Table):
    """A secret that all processes over the store share, such as the key that signs tokens."""

    name: Any = TextField(primary_key=True)
    data: Any = BlobField()

    class Meta:
        table_name = "secret"


TABLES: tuple[type[Table], ...] = (
    SessionRow,
    LabelRow,
    AliasRow,
    MessageRow,
    TurnRow,
    EventRow,
    KeyRow,
    AttachmentRow,
    AttachmentUseRow,
    ChunkRow,
    NodeRow,
    NodeAgentRow,
    SessionNodeRow,
    SecretRow,
)


@cache
def _statements(table: type[Table]) -> tuple[tuple[str, ...], str, str]:
    fields = table._meta.sorted_fields  # noqa: SLF001 (Peewee has no other way to ask)
    columns = ", ".join(field.column_name for field in fields)
    name = table._meta.table_name  # noqa: SLF001
    places = ", ".join("?" * len(fields))
    select = f"SELECT {columns} FROM {name} WHERE "
    return tuple(field.name for field in fields), select, f"INSERT INTO {name} ({columns}) VALUES ({places})"
