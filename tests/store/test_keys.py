"""Keys, and the secrets that processes share."""

import hashlib
import threading

import pytest

from tests.store.harness import ALICE, SECOND, Process, refusal
from turnwire.v1 import key_service_pb2 as service
from turnwire.v1.key_pb2 import Key
from turnwired.rules.caller import Caller
from turnwired.store import keys, secrets

DEFAULT = ["agent:read", "agent:manage", "chat", "files"]
ALL = ["agent:read", "agent:manage", "chat", "channels", "files", "node", "admin"]


def create(process: Process, caller: Caller = ALICE, **fields: object) -> service.CreateKeyResponse:
    return process.write(keys.create, caller, Key(**fields))


def revoke(process: Process, name: str, caller: Caller = ALICE, **more: bool) -> Key:
    return process.write(keys.revoke, caller, service.RevokeKeyRequest(name=name), **more)


def find(process: Process, secret: str) -> Key | None:
    return process.read(keys.find, secret)


@pytest.mark.parametrize(
    ("style", "agent", "look"),
    [
        (Key.STYLE_UNSPECIFIED, "", "tw_"),
        (Key.STYLE_PLAIN, "", "tw_"),
        (Key.STYLE_ALUMIA, "", "alm_live_"),
        (Key.STYLE_GUAYABA, "", "g_master_"),
        (Key.STYLE_GUAYABA, "agents/echo", "g_agent_"),
        (Key.STYLE_HAPI, "", "hapi_"),
        (Key.STYLE_LLAMACLOUD, "", "llx-"),
        (Key.STYLE_CORTEX, "agents/echo", "ctx_"),
    ],
)
def test_a_key_looks_as_its_style_says(one: Process, style: int, agent: str, look: str) -> None:
    made = create(one, style=style, agent=agent)
    digits = made.secret.removeprefix(look)
    assert made.secret.startswith(look) and len(digits) == 48 and set(digits) <= set("0123456789abcdef")
    assert made.key.prefix == made.secret[:12]
    assert find(one, made.secret) == made.key


def test_the_secret_is_nowhere_in_the_store(one: Process) -> None:
    made = create(one)
    rows = one.read(lambda db: db.all("SELECT * FROM api_key"))
    stored = b"".join(bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for row in rows for v in row)
    assert made.secret.encode() not in stored and made.secret[12:].encode() not in stored
    assert hashlib.sha256(made.secret.encode()).digest() in stored


@pytest.mark.parametrize(
    ("given", "granted"),
    [
        ([], DEFAULT),
        (["*"], ALL),
        (["*", "namespaces"], [*ALL, "namespaces"]),
        (["chat", "chat"], ["chat"]),
        (["files", "agent:read"], ["agent:read", "files"]),
    ],
)
def test_scopes_are_kept_as_they_are_meant(one: Process, given: list[str], granted: list[str]) -> None:
    assert list(create(one, scopes=given).key.scopes) == granted


def test_a_hapi_key_enters_namespaces(one: Process) -> None:
    assert list(create(one, style=Key.STYLE_HAPI).key.scopes) == [*DEFAULT, "namespaces"]


@pytest.mark.parametrize(
    "fields",
    [
        {"scopes": ["chat", "everything"]},
        {"namespace": "a b"},
        {"namespace": "a" * 65},
        {"style": 99},
        {"agent": "echo"},
        {"agent": "agents/"},
    ],
    ids=str,
)
def test_a_key_that_could_not_work_is_refused(one: Process, fields: dict[str, object]) -> None:
    assert refusal(create, one, **fields) == "FIELD_INVALID"
    assert not one.read(keys.any_keys)


def test_the_caller_sets_no_output_field(one: Process) -> None:
    made = create(
        one, name="keys/mine", prefix="mine", tokens_used=7, token_quota=9, rate_per_minute=3, display_name="d"
    )
    assert made.key.name != "keys/mine" and made.key.prefix != "mine" and made.key.tokens_used == 0
    assert (made.key.token_quota, made.key.rate_per_minute, made.key.display_name) == (9, 3, "d")
    assert made.key.namespace == "default" and made.key.create_time.ToMicroseconds() == one.clock.now_us()


def test_a_key_stops_at_its_time_or_when_it_is_revoked(one: Process) -> None:
    key = Key()
    key.expire_time.FromMicroseconds(one.clock.now_us() + SECOND)
    made = one.write(keys.create, ALICE, key).key
    assert keys.usable(made, one.clock.now_us()) and not keys.usable(made, one.clock.now_us() + SECOND)
    one.tick(2 * SECOND)
    assert refusal(one.write, keys.create, ALICE, key) == "FIELD_INVALID"
    revoked = revoke(one, create(one).key.name)
    assert not keys.usable(revoked, 0)


def test_a_revoked_key_is_still_found_and_still_counts(one: Process) -> None:
    assert not one.read(keys.any_keys)
    made = create(one)
    assert one.read(keys.any_keys)
    one.tick()
    revoked = revoke(one, made.key.name)
    assert revoked.revoke_time.ToMicroseconds() == one.clock.now_us()
    assert [hint.kind for hint in one.outcome.hints] == ["keys"]
    assert find(one, made.secret) == revoked and one.read(keys.any_keys)
    one.tick()
    assert revoke(one, made.key.name) == revoked


def test_a_prefix_means_the_key_that_works(one: Process) -> None:
    made = create(one)
    assert revoke(one, f"keys/{made.key.prefix}").name == made.key.name
    assert revoke(one, f"keys/{made.key.prefix}").HasField("revoke_time")
    twins = [create(one).key for _ in range(2)]
    one.raw("UPDATE api_key SET prefix = ? WHERE revoke_us IS NULL", "tw_000000000")
    assert refusal(revoke, one, "keys/tw_000000000") == "FIELD_INVALID"
    revoke(one, twins[0].name)
    assert revoke(one, "keys/tw_000000000").name == twins[1].name


def test_a_key_of_another_namespace_is_out_of_reach_unless_all_are_meant(one: Process) -> None:
    made = create(one, Caller("other"))
    for name in (made.key.name, f"keys/{made.key.prefix}", "keys/none", "keys/000000000000"):
        assert refusal(revoke, one, name) == "KEY_NOT_FOUND"
    assert one.read(keys.list_keys, ALICE, service.ListKeysRequest()) == service.ListKeysResponse()
    everything = one.read(keys.list_keys, ALICE, service.ListKeysRequest(), any_namespace=True)
    assert list(everything.keys) == [made.key]
    assert revoke(one, made.key.name, any_namespace=True).HasField("revoke_time")


def test_a_walk_over_keys_gives_each_once_newest_first(one: Process) -> None:
    made = []
    for number in range(5):
        made.append(create(one).key.name)
        one.tick(number % 2)
    request, found = service.ListKeysRequest(page_size=2), []
    while not found or request.page_token:
        page = one.read(keys.list_keys, ALICE, request)
        found.extend(page.keys)
        request.page_token = page.next_page_token
    assert {key.name for key in found} == set(made) and len(found) == 5
    times = [key.create_time.ToMicroseconds() for key in found]
    assert times == sorted(times, reverse=True)


def test_used_tokens_add_up(one: Process) -> None:
    made = create(one)
    key_id = made.key.name.removeprefix("keys/")
    for tokens in (3, 4):
        one.write(lambda tx, used: tx.spent.update({key_id: used}), tokens)
    one.write(lambda tx: tx.spent.update({"none": 5}))
    found = find(one, made.secret)
    assert found is not None and found.tokens_used == 7
    assert revoke(one, made.key.name).tokens_used == 7
    by_id = one.read(keys.find_by_id, key_id)
    assert by_id is not None and by_id.tokens_used == 7


def test_an_unknown_secret_is_no_key(one: Process) -> None:
    made = create(one)
    for secret in ("", "tw_", made.secret[:-1], made.secret + "0", made.secret.upper(), "\0", "\ud800"):
        assert find(one, secret) is None


def test_all_processes_get_the_same_secret(one: Process, store_url: str) -> None:
    assert one.read(secrets.find, secrets.TOKEN_KEY) is None
    found: list[bytes] = []
    start = threading.Barrier(4)

    def ask() -> None:
        process = Process(store_url)
        start.wait(10)
        found.append(process.write(secrets.get_or_create, secrets.TOKEN_KEY))
        process.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == 1 and len(found) == 4 and len(found[0]) == 32
    assert one.read(secrets.find, secrets.TOKEN_KEY) == found[0]
