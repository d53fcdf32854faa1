import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import message_service_pb2, reason_pb2, session_service_pb2, turn_service_pb2
from turnwired.errors import Fault
from turnwired.rules import pages

ints = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100)


def request(**fields):
    return session_service_pb2.ListSessionsRequest(**{"filter": "owner = a", "page_size": 2} | fields)


@given(st.lists(ints | texts, min_size=1, max_size=4))
def test_a_position_comes_back(values):
    token = pages.token(request(), tuple(values))
    assert pages.position(request(page_token=token), *map(type, values)) == tuple(values)


def test_a_token_can_stand_in_a_url_as_it_is():
    token = pages.token(request(), ("ÿ?>" * 20, 7))
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()


def test_no_token_is_the_first_page():
    assert pages.position(request(), int) is None


def test_a_later_page_may_have_another_size():
    token = pages.token(request(page_size=2), (5,))
    assert pages.position(request(page_size=9, page_token=token), int) == (5,)


@pytest.mark.parametrize(
    "other",
    [
        request(filter="owner = b"),
        request(show_archived=True),
        turn_service_pb2.ListTurnsRequest(),
        message_service_pb2.ListMessagesRequest(),
    ],
)
def test_a_token_of_another_query_is_refused(other):
    other.page_token = pages.token(request(), (5,))
    _refused(other, int)


def test_a_token_of_another_kind_of_position_is_refused():
    token = pages.token(request(), (5, "a"))
    for shape in ((int,), (str, int), (int, int), (int, str, int), ()):
        _refused(request(page_token=token), *shape)


@given(st.data())
def test_a_changed_token_is_refused(data):
    token = pages.token(request(), (1_700_000_000_000, "0b5c4a0e"))
    at = data.draw(st.integers(0, len(token) - 1))
    to = data.draw(st.sampled_from("ABCDwxyz0189-_=+/ é\n").filter(lambda char: char != token[at]))
    _refused(request(page_token=token[:at] + to + token[at + 1 :]), int, str)


@given(st.data())
def test_a_cut_or_lengthened_token_is_refused(data):
    token = pages.token(request(), (1_700_000_000_000, "0b5c4a0e"))
    cut = token[: data.draw(st.integers(1, len(token) - 1))]
    _refused(request(page_token=cut), int, str)
    _refused(request(page_token=token + data.draw(st.text("AZaz09-_=", min_size=1, max_size=5))), int, str)


@given(
    st.text(min_size=1, max_size=200)
    | st.binary(min_size=1, max_size=200).map(lambda raw: base64.b64encode(raw).decode())
)
def test_any_text_is_refused_and_breaks_nothing(text):
    try:
        made = request(page_token=text)
    except UnicodeEncodeError:
        return
    _refused(made, int, str)


@pytest.mark.parametrize(
    "payload", [b"[[[[5]]]]", b"[1e999]", b"[true]", b'["\\ud800"]', b'["\\u0000"]', b"[%d]" % 2**63, b"{}"]
)
def test_a_forged_token_carries_only_what_a_store_can_look_up(payload):
    forged = pages._sealed(request(), payload)
    for kind in (int, str):
        _refused(request(page_token=forged), kind)


def test_a_forged_token_of_great_depth_is_refused():
    _refused(request(page_token=pages._sealed(request(), b"[" * 2900)), int)
    _refused(request(page_token=pages._sealed(request(), b"[" * 200_000)), int)


@pytest.mark.parametrize(("requested", "given_size"), [(0, 50), (1, 1), (500, 500), (501, 500), (2**31 - 1, 500)])
def test_a_page_size_has_a_default_and_a_maximum(requested, given_size):
    assert pages.page_size(requested, 50, 500) == given_size


def test_a_negative_page_size_is_refused():
    with pytest.raises(Fault) as refused:
        pages.page_size(-1, 50, 500)
    assert (refused.value.reason, refused.value.facts) == (reason_pb2.REASON_FIELD_INVALID, {"field": "page_size"})


def _refused(made, *shape):
    with pytest.raises(Fault) as refused:
        pages.position(made, *shape)
    assert refused.value.reason == reason_pb2.REASON_PAGE_TOKEN_INVALID
