import asyncio

import pytest

from tests.gateway.stack import ask, parity_gateway, served


@pytest.fixture(scope="module")
def parity_port():
    """The port of what `make parity` serves."""
    with served() as port:
        yield port


@pytest.fixture(scope="session")
def answers():
    """What one gateway before the parity service answers to (method, target, body, headers), in process."""
    with asyncio.Runner() as runner:
        serving = parity_gateway()
        gateway = runner.run(serving.__aenter__())
        yield lambda method, target, body=b"", headers=(): runner.run(ask(gateway, method, target, headers, body))
        runner.run(serving.__aexit__(None, None, None))
