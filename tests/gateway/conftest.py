import pytest

from tests.gateway.stack import served


@pytest.fixture(scope="module")
def parity_port():
    """The port of what `make parity` serves."""
    with served() as port:
        yield port
