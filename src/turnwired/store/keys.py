"""Keys: made, listed, revoked, and found by the hash of their secret."""

import hashlib
import re
from typing import Final

from turnwire.v1 import key_service_pb2 as service
from turnwire.v1 import options_pb2, reason_pb2
from turnwire.v1.key_pb2 import Key
from turnwired.errors import Fault
from turnwired.rules import names, pages, scopes
from turnwired.rules.caller import Caller
from turnwired.store.db import Connection
from turnwired.store.schema import KeyRow
from turnwired.store.tx import Tx

PREFIX_LENGTH: Final = 12
"""Characters of a secret that are kept, to tell keys apart."""

_SECRET_BYTES: Final = 24
_NAMESPACE: Final = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_LOOKS: Final = {
    Key.STYLE_UNSPECIFIED: "tw_",
    Key.STYLE_PLAIN: "tw_",
    Key.STYLE_ALUMIA: "alm_live_",
    Key.STYLE_GUAYABA: "g_master_",
    Key.STYLE_HAPI: "hapi_",
    Key.STYLE_LLAMACLOUD: "llx-",
    Key.STYLE_CORTEX: "ctx_",
}
_AGENT_LOOK: Final = "g_agent_"
_DEFAULT, _MAX = 50, 500


def create(tx: Tx, caller: Caller, key: Key) -> service.CreateKeyResponse:
    """Make a key, in the caller's namespace if it names none; the answer is the only place that has its secret.

    Who may make which key is for the caller of this to know. Raises FIELD_INVALID.
    """
    made = Key()
    made.CopyFrom(key)
    made.namespace = key.namespace or caller.namespace
    if not _NAMESPACE.fullmatch(made.namespace):
        raise Fault(
            reason_pb2.REASON_FIELD_INVALID,
            "key.namespace must be 1 to 64 characters of [a-zA-Z0-9._-]",
            field="key.namespace",
        )
    if key.style not in _LOOKS:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "key.style is none of the known ones", field="key.style")
    if key.agent and not names.parse_agent(key.agent, "key.agent").agent_id:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "key.agent must be agents/NAME", field="key.agent")
    if key.HasField("expire_time") and key.expire_time.ToMicroseconds() <= tx.now_us:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "key.expire_time must be in the future", field="key.expire_time")
    granted = scopes.parse(key.scopes, "key.scopes")
    if key.style == Key.STYLE_HAPI:
        granted |= {options_pb2.SCOPE_NAMESPACES}
    del made.scopes[:]
    made.scopes.extend(scopes.format(granted))
    made.style = key.style or Key.STYLE_PLAIN
    look = _AGENT_LOOK if key.style == Key.STYLE_GUAYABA and key.agent else _LOOKS[key.style]
    secret = look + tx.ids.token(_SECRET_BYTES)
    made.name = names.key(tx.ids.uuid())
    made.prefix = secret[:PREFIX_LENGTH]
    made.tokens_used = 0
    made.create_time.FromMicroseconds(tx.now_us)
    made.ClearField("revoke_time")
    KeyRow.insert(
        id=made.name.removeprefix("keys/"),
        namespace=made.namespace,
        hash=digest(secret),
        prefix=made.prefix,
        create_us=tx.now_us,
        expire_us=made.expire_time.ToMicroseconds() if made.HasField("expire_time") else None,
        tokens_used=0,
        data=made.SerializeToString(),
    ).execute(tx.db.peewee)
    tx.hint("keys")
    return service.CreateKeyResponse(key=made, secret=secret)


def digest(secret: str) -> bytes:
    """What is stored of a secret: its SHA-256. Secrets are random and long, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def find(db: Connection, secret: str) -> Key | None:
    """The key of a secret, revoked and expired ones too (`usable` judges), with the tokens that it has used."""
    row = KeyRow.select().where(KeyRow.hash == digest(secret)).first(db.peewee)
    return to_key(row) if row is not None else None


def find_by_id(db: Connection, key_id: str) -> Key | None:
    """The key of an id, as `find` gives it: for a token that names the key that it was made for."""
    row = KeyRow.select().where(KeyRow.id == key_id).first(db.peewee)
    return to_key(row) if row is not None else None


def usable(key: Key, now_us: int) -> bool:
    """Whether a key works at a time: it is neither revoked nor expired."""
    if key.HasField("revoke_time"):
        return False
    return not key.HasField("expire_time") or now_us < key.expire_time.ToMicroseconds()


def any_keys(db: Connection) -> bool:
    """Whether any key was ever made, a revoked or an expired one too: without, the server is open."""
    return db.one("SELECT 1 FROM api_key LIMIT 1") is not None


def list_keys(
    db: Connection, caller: Caller, request: service.ListKeysRequest, *, any_namespace: bool = False
) -> service.ListKeysResponse:
    """The namespace's keys, newest first, revoked ones too; with `any_namespace` those of all.

    Raises PAGE_TOKEN_INVALID, FIELD_INVALID.
    """
    size = pages.page_size(request.page_size, _DEFAULT, _MAX)
    position = pages.position(request, int, str)
    query = KeyRow.select()
    if not any_namespace:
        query = query.where(KeyRow.namespace == caller.namespace)
    if position is not None:
        at, key_id = position
        query = query.where((KeyRow.create_us < at) | ((KeyRow.create_us == at) & (KeyRow.id < key_id)))
    ordered = query.order_by(KeyRow.create_us.desc(), KeyRow.id.desc()).limit(size + 1)
    found = list(ordered.execute(db.peewee))
    response = service.ListKeysResponse(keys=[to_key(row) for row in found[:size]])
    if len(found) > size:
        response.next_page_token = pages.token(request, (int(found[size - 1].create_us), found[size - 1].id))
    return response


def revoke(tx: Tx, caller: Caller, request: service.RevokeKeyRequest, *, any_namespace: bool = False) -> Key:
    """Make a key stop working; one that was revoked before stays as it is.

    By a prefix, the key that works is meant. Raises KEY_NOT_FOUND, FIELD_INVALID (a prefix that several keys have).
    """
    ref = names.parse_key(request.name)
    query = KeyRow.select()
    if not any_namespace:
        query = query.where(KeyRow.namespace == caller.namespace)
    found: list[KeyRow] = []
    if ref.uuid:
        found = list(query.where(KeyRow.id == ref.uuid).execute(tx.db.peewee))
    elif ref.prefix:
        found = list(query.where(KeyRow.prefix == ref.prefix).execute(tx.db.peewee))
        found = [row for row in found if row.revoke_us is None] or found[:1]
    if not found:
        raise Fault(reason_pb2.REASON_KEY_NOT_FOUND, "Key not found", key=request.name)
    if len(found) > 1:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "several keys begin so; name one by its id", field="name")
    row = found[0]
    key = to_key(row)
    if row.revoke_us is not None:
        return key
    key.revoke_time.FromMicroseconds(max(tx.now_us, int(row.create_us)))
    tx.db.run(
        "UPDATE api_key SET revoke_us = ?, data = ? WHERE id = ?",
        key.revoke_time.ToMicroseconds(),
        key.SerializeToString(),
        row.id,
    )
    tx.hint("keys")
    return key


def to_key(row: KeyRow) -> Key:
    """A key as it is stored, with the tokens that it has used."""
    key = Key.FromString(bytes(row.data))
    key.tokens_used = int(row.tokens_used)
    return key
