"""Media types: what is one, and what a list takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwired.rules.media_types import essence, takes, well_formed


@pytest.mark.parametrize(
    "text", ["image/png", "audio/webm;codecs=opus", 'text/plain ; charset="utf-8"', "application/vnd.a+json", "x/y;"]
)
def test_these_are_media_types(text: str) -> None:
    assert well_formed(text)


@pytest.mark.parametrize("text", ["", "png", "/", "image/", "/png", "a/b/c", "image/png\n", "a b/c", "a/b;\x7f", "é/x"])
def test_these_are_none(text: str) -> None:
    assert not well_formed(text)


@given(st.text())
def test_what_is_well_formed_can_be_a_header(text: str) -> None:
    if well_formed(text):
        assert text.isascii() and text.replace("\t", " ").isprintable()


def test_case_and_parameters_do_not_count() -> None:
    assert essence("Audio/WebM; codecs=opus") == "audio/webm"
    assert takes(["audio/*"], "Audio/WebM; codecs=opus")
    assert takes(["AUDIO/WEBM"], "audio/webm")
    assert takes(["*/*"], "x/y")


def test_a_range_takes_its_own_kind_alone() -> None:
    assert not takes(["image/*", "audio/mpeg"], "audio/webm")
    assert not takes(["image/*"], "imagex/png")
    assert not takes([], "x/y")
