"""What a key used is added up once a group, behind everything else that the group locks."""

import threading
from collections.abc import Callable

from tests.store.harness import Process, opened
from turnwire.v1.key_pb2 import Key
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.usage_pb2 import Usage
from turnwired.errors import Fault
from turnwired.rules.caller import Caller
from turnwired.store import keys, leases
from turnwired.store.ending import Ending
from turnwired.store.tx import Lease, Tx

LIMIT = 20
ADMIN = Caller("default", "anonymous", open=True)


def key_of(one: Process) -> str:
    """The name of a new key."""
    return one.write(keys.create, ADMIN, Key(scopes=["chat"])).key.name


def used(one: Process, key: str) -> int:
    found = one.read(lambda db: db.one("SELECT tokens_used FROM api_key WHERE id = ?", key.removeprefix("keys/")))
    assert found is not None
    return int(found[0])


def end_of(one: Process, key: str, tokens: int = 5) -> Callable[[Tx], Turn]:
    """A write that ends a turn of a key, which used so many tokens."""
    turn = one.turn(one.session().name, caller=Caller("default", key))
    _, session, _, turn_id = turn.name.split("/")
    how = Ending(Turn.STATE_SUCCEEDED, usage=Usage(output_tokens=tokens))
    return lambda tx: leases.finish(tx, Lease(session, turn_id, turn.attempt, "default"), how)


def test_turns_that_end_in_one_group_add_to_their_keys(one: Process) -> None:
    a, b = key_of(one), key_of(one)
    ops = one.group(end_of(one, a), end_of(one, b, 7), end_of(one, a, 11))
    assert [op.error for op in ops] == [None, None, None]
    assert (used(one, a), used(one, b)) == (16, 7)


def test_a_write_that_is_undone_adds_nothing(one: Process) -> None:
    key = key_of(one)
    end = end_of(one, key)

    def undone(tx: Tx) -> None:
        end(tx)
        raise Fault(0, "no")

    first, second = one.group(undone, end_of(one, key, 3))
    assert first.error is not None and second.error is None
    assert used(one, key) == 3


def test_two_processes_that_end_turns_of_the_same_keys_in_other_orders_do_not_deadlock(
    postgres_url: str,
) -> None:
    one, other = opened(postgres_url), Process(postgres_url)
    a, b = key_of(one), key_of(one)
    here, there = [end_of(one, a), end_of(one, b)], [end_of(one, b), end_of(one, a)]
    between = threading.Barrier(2, timeout=LIMIT)
    errors: list[BaseException | None] = []

    def meet(_tx: Tx) -> None:
        between.wait()

    def run(process: Process, first: Callable[[Tx], Turn], second: Callable[[Tx], Turn]) -> None:
        errors.extend(op.error for op in process.group(first, meet, second))
        process.close()

    threads = [threading.Thread(target=run, args=(process, *ends)) for process, ends in ((one, here), (other, there))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert errors == [None] * 6
    assert (used(one, a), used(one, b)) == (10, 10)
    one.close()
    other.close()
