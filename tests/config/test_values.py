import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from turnwired.config.values import Address, Bytes, Seconds


class Both(BaseModel):
    span: Seconds = 0
    size: Bytes = 0


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:0", "::1", 0), ("db.internal:65535", "db.internal", 65535)],
)
def test_an_address_is_read_and_written_alike(text, host, port):
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "localhost", ":80", "::1:80", "h:", "h:65536", "h:-1", "h:8o", "h:٣"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"expected HOST:PORT|the port must be"):
        Address.parse(text)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused_with_a_reason(text):
    try:
        address = Address.parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 (most texts are refused; those that are not are checked below)
    else:
        assert 0 <= address.port <= 65_535
        assert address.host


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com")),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host, loopback):
    assert Address(host, 1).is_loopback is loopback


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        ("90", 90),
        ("20ms", 0.02),
        ("1.5s", 1.5),
        ("15m", 900),
        ("15 min", 900),
        ("24h", 86_400),
        ("30d", 2_592_000),
    ],
)
def test_a_time_span_may_have_a_unit(written, seconds):
    assert Both(span=written).span == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "size"), [(7, 7), ("7", 7), ("64KiB", 65_536), ("64 kb", 64_000), ("4MiB", 4_194_304), ("1GiB", 2**30)]
)
def test_a_size_may_have_a_unit(written, size):
    assert Both(size=written).size == size


@pytest.mark.parametrize(
    "values", [{"span": "soon"}, {"span": "-1s"}, {"span": ""}, {"size": "4 apples"}, {"size": "1.5MiB"}]
)
def test_a_unit_that_nobody_knows_is_refused(values):
    with pytest.raises(ValidationError, match="expected"):
        Both(**values)
