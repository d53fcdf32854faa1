"""Each case of `tests/cases/**.yaml`, over gRPC and over the gateway, on both stores; `play` says how to write one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.cases.play import Case, load, play
from tests.fixtures.server import Running, served
from tests.fixtures.stores import STORES

CASES = load()


@pytest.fixture(params=STORES, scope="module")
def new_store(request, tmp_path_factory):
    """Gives the URL of an empty store each time, all of one kind."""
    made = []

    def url() -> str:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('case') / 'turnwire.db'}"
        postgres = request.getfixturevalue("postgres")
        made.append(postgres.create())
        return str(postgres.url(made[-1]))

    yield url
    for name in made:
        request.getfixturevalue("postgres").drop(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(new_store) -> AsyncIterator[Running]:
    """The server of all cases that need none of their own."""
    async with served(new_store()) as server:
        yield server


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("over", ["gRPC", "gateway"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.where)
async def test_case(case: Case, over: str, shared: Running, new_store):
    if over == "gateway" and not case.over_http:
        pytest.skip("the method has no HTTP path")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(served(new_store(), **case.settings)) if case.apart else shared
        await play(case, server, over)


def test_each_case_says_what_it_claims_once():
    claims = [case.about for case in CASES]
    assert len(claims) == len(set(claims))
