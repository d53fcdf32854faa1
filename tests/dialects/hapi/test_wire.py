import pytest

from turnwired.dialects.hapi import paths, wire
from turnwired.dialects.hapi.about import claims
from turnwired.dialects.hapi.access import AccessToken, access_token


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("base", AccessToken("base")),
        ("  base\n", AccessToken("base")),
        ("base:ns", AccessToken("base", "ns")),
        ("a:b:ns", AccessToken("a:b", "ns")),
        (" base:ns ", AccessToken("base", "ns")),
        ("", None),
        ("  ", None),
        (":", None),
        ("base:", None),
        (":ns", None),
        ("base : ns", None),
        ("base: ns", None),
        ("base :ns", None),
        ("base\t:ns", None),
    ],
)
def test_an_access_token_is_a_base_and_behind_its_last_colon_a_namespace(text, parts):
    assert access_token(text) == parts


def test_a_token_without_its_claims_and_a_foreign_machine_are_told_apart():
    assert wire.answer_to("KEY_INVALID", {}) is wire.BAD_TOKEN
    assert wire.answer_to("KEY_INVALID", {"token": "payload"}) is wire.BAD_PAYLOAD
    assert wire.answer_to("NODE_NOT_FOUND", {"node": "n"}) is wire.NO_MACHINE
    assert wire.answer_to("NODE_NOT_FOUND", {"node": "n", "foreign": "true"}) is wire.MACHINE_DENIED
    assert wire.answer_to("NEVER_HEARD_OF", {}).status == 500


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/api", True),
        ("/api/", True),
        ("/api/sessions", True),
        ("/api/none", True),
        ("/api/v10", True),
        ("/cli", True),
        ("/cli/sessions", True),
        ("/health", True),
        ("/api/v1", False),
        ("/api/v1/sessions", False),
        ("/api/v1/anything", False),
        ("/apis", False),
        ("/clients", False),
        ("/healthz", False),
        ("/", False),
    ],
)
def test_all_of_api_but_v1_is_this_dialects_at_the_root(path, ours):
    assert claims("GET", path, None) is ours


SESSION = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
FILE = "7d3f6a52-0f64-4f2b-8a53-9a4a1f0c2b11"
NAME = f"sessions/{SESSION}/attachments/{FILE}"


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("design.png", "design.png"),
        ("../../etc/passwd", "____etc_passwd"),
        ("a\\b", "a_b"),
        ("a..b", "a_b"),
        ("....", "_"),
        ("a/../b", "a___b"),
    ],
)
def test_a_path_names_its_attachment_and_no_place_in_a_file_system(filename, shown):
    path = paths.made(NAME, filename)
    assert path.endswith(f"/{shown}")
    found = paths.parse(path)
    assert found is not None and found.name == NAME


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/hapi-upload-abc123-design.png",
        "",
        f"/hapi-uploads/{SESSION}/{FILE}",
        f"/hapi-uploads/{SESSION}/{FILE}/",
        f"/hapi-uploads/{SESSION}/{FILE}/a/b",
        f"/hapi-uploads/{SESSION}/{FILE}/..",
        f"/hapi-uploads/{SESSION.upper()}/{FILE}/a",
        f"x/hapi-uploads/{SESSION}/{FILE}/a",
        "/hapi-uploads/../x/y",
    ],
)
def test_a_path_that_no_upload_gave_means_nothing(path):
    assert paths.parse(path) is None
