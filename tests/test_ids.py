import os
import uuid

import pytest

from turnwired.ids import RandomIds, SeededIds


@pytest.mark.parametrize("ids", [RandomIds(), SeededIds()])
def test_a_uuid_is_of_version_four_and_lower_case(ids):
    made = ids.uuid()
    assert uuid.UUID(made).version == 4
    assert made == made.lower()
    assert made != ids.uuid()


@pytest.mark.parametrize("ids", [RandomIds(), SeededIds()])
def test_tokens_have_the_bytes_that_were_asked_for(ids):
    assert len(ids.token(16)) == 32
    assert len(bytes.fromhex(ids.token())) == 32
    assert len(ids.token_urlsafe(32)) == 43
    assert set("+/=").isdisjoint("".join(ids.token_urlsafe(48) for _ in range(50)))


def test_a_seed_repeats_all_of_it():
    one, two, other = SeededIds(1), SeededIds(1), SeededIds(2)
    assert [one.process_id(), one.uuid(), one.uniform(0, 1)] == [two.process_id(), two.uuid(), two.uniform(0, 1)]
    assert one.uuid() != other.uuid()


def test_a_process_keeps_its_name_and_shares_it_with_none():
    ids = RandomIds()
    assert ids.process_id() == ids.process_id()
    assert ids.process_id().startswith(f"{os.getpid()}-")
    assert ids.process_id() != RandomIds().process_id()


def test_jitter_stays_within_its_bounds():
    assert all(1 <= RandomIds().uniform(1, 2) <= 2 for _ in range(100))
