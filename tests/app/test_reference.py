"""The page that shows the OpenAPI document to people."""

import asyncio
import json
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser

import pytest

from tests.fixtures.server import LIMIT, served
from turnwired.app.openapi import document
from turnwired.app.reference import Reference
from turnwired.app.surfaces import BUILT

VOID = {"meta", "br"}


class Read(HTMLParser):
    """What a browser finds in a page; it fails where a tag is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.loads, self.lines, self.open = Counter(), [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == ["html", "body"]

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags[tag] += 1
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.loads += [found[name] for name in ("src", "srcset", "data", "action") if name in found]
        self.lines += [""] if tag == "pre" else []
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "pre":
            self.lines[-1] += data


@pytest.fixture(scope="module")
def made():
    return document(list(BUILT.values()))


@pytest.fixture(scope="module")
def read(made):
    return Read(Reference(made).page("http://127.0.0.1:1", closed=True))


def test_every_operation_and_every_message_has_a_place_and_every_link_leads_to_one(made, read):
    operations = [at["operationId"] for item in made["paths"].values() for at in item.values()]
    assert {*operations, *made["components"]["schemas"]} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))
    assert {link.removeprefix("#") for link in read.links if link.startswith("#")} <= set(read.ids)
    assert len(read.lines) == len(operations)


def test_the_page_loads_nothing(read):
    assert read.loads == []
    assert {link for link in read.links if not link.startswith("#")} == {"/openapi.json"}
    assert not {"script", "link", "img", "iframe", "form"} & set(read.tags)


def test_each_line_is_one_command_for_its_address(read):
    for line in read.lines:
        words = shlex.split(line)
        assert words[0] == "curl"
        assert "authorization: Bearer $TURNWIRE_KEY" in words
        [_] = [word for word in words if word.startswith("http://127.0.0.1:1/")]
        assert not any("{" in word for word in words if word.startswith("http"))
        if "-d" in words:
            json.loads(words[words.index("-d") + 1])


def test_what_a_document_says_is_text_and_never_markup():
    bad = "<script>alert(1)</script>'\""
    said = {
        "info": {"title": bad, "version": bad},
        "tags": [{"name": bad, "description": bad}],
        "paths": {
            f"/v1/{bad}": {
                "get": {
                    "tags": [bad],
                    "operationId": bad,
                    "summary": bad,
                    "parameters": [{"name": bad, "in": "query", "schema": {"type": bad, "format": bad}}],
                    "requestBody": {"content": {"application/json": {"schema": {"properties": {bad: {}}}}}},
                    "responses": {bad: {"description": bad, "content": {bad: {}}}},
                }
            }
        },
        "components": {"schemas": {bad: {"description": bad, "required": [bad], "properties": {bad: {"type": bad}}}}},
    }
    assert "script" not in Read(Reference(said).page(bad, closed=False)).tags


def test_answers_that_are_alike_share_a_line(made):
    page = Reference(made).page("http://127.0.0.1:1", closed=False)
    assert "<td>400, 404, 501, default</td>" in page
    assert "<td>501</td>" not in page


def test_a_description_breaks_at_blank_lines_and_lists_and_not_where_the_comment_was_wrapped():
    said = "One\nsentence of **weight**.\n\nAnother:\n- `a`\n- b, in\ntwo lines"
    schemas = {"Thing": {"description": said}}
    page = Reference(
        {"info": {"title": "t", "version": "1"}, "tags": [], "paths": {}, "components": {"schemas": schemas}}
    )
    wanted = "<p>One sentence of <b>weight</b>.\n\nAnother:\n- <code>a</code>\n- b, in two lines</p>"
    assert wanted in page.page("http://127.0.0.1:1", closed=False)


def test_a_body_says_what_it_is():
    body = {"type": "object", "description": "A thing\n- At most one of `a`, `b`"}
    operation = {
        "tags": ["t"], "operationId": "o", "responses": {},
        "requestBody": {"content": {"application/json": {"schema": body}}},
    }  # fmt: skip
    said = {"info": {"title": "t", "version": "1"}, "tags": [{"name": "t"}], "paths": {"/v1/a": {"post": operation}}}
    page = Reference(said).page("http://127.0.0.1:1", closed=False)
    assert "<h4>Body</h4><p>A thing\n- At most one of <code>a</code>, <code>b</code></p>" in page


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_the_server_shows_its_document_and_lines_that_work(sqlite_url):
    async with served(sqlite_url) as server:
        page = await server.http.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "href='/docs'" in (await server.http.get("/")).text
        read = Read(page.text)
        [line] = [line for line in read.lines if line.startswith("curl -s ") and "/v1/sessions' -d" in line]
        process = await asyncio.create_subprocess_exec(*shlex.split(line), stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(LIMIT):
            answered, _ = await process.communicate()
        assert json.loads(answered)["name"].startswith("sessions/")
