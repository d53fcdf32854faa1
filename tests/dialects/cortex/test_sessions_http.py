"""Sessions, their nodes, and what other surfaces made of them. Source: contracts/cortex.md, sections 4, 8 and 9."""

import asyncio
import re

import pytest

from tests.dialects.cortex.conftest import ENDLESS, SESSIONS, cortex_on, rest

KEYS = [
    "id",
    "user_id",
    "title",
    "provider_name",
    "feature_name",
    "workspace_id",
    "sync_config",
    "attached_node_ids",
    "is_running",
    "created_at",
    "updated_at",
]
GONE = {"detail": "Session not found"}


async def test_a_session_of_nothing_but_its_user_has_the_defaults(cortex):
    made = await cortex.json("POST", "/", {"user_id": "u-1"})
    assert list(made) == KEYS
    assert isinstance(made["id"], int) and made["id"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?", made["created_at"])
    assert made == {
        "id": made["id"],
        "user_id": "u-1",
        "title": "New Chat Session",
        "provider_name": None,
        "feature_name": "default",
        "workspace_id": None,
        "sync_config": None,
        "attached_node_ids": [],
        "is_running": False,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert await cortex.json("GET", f"/{made['id']}") == made
    assert await cortex.json("GET", "/?user_id=u-1") == [made]


async def test_a_session_keeps_what_it_was_made_with_to_the_letter(cortex):
    given = {
        "user_id": "u/1 ü",
        "title": "  T ",
        "provider_name": "open ai/gpt-4",
        "feature_name": "f:1",
        "workspace_id": "",
        "sync_config": {"b": 1, "a": [9007199254740993, 1.0, None], "": {}},
    }
    made = await cortex.json("POST", "/", given)
    assert {name: made[name] for name in given} == given
    assert list(made["sync_config"]) == ["b", "a", ""]


async def test_a_patch_changes_what_it_names_and_null_resets(cortex):
    number = await cortex.session(provider_name="echo", workspace_id="w", sync_config={"a": 1}, title="T")
    before = await cortex.json("GET", f"/{number}")
    assert await cortex.json("PATCH", f"/{number}", {}) == before
    ignored = {"user_id": "u-2", "feature_name": "f", "id": 9, "created_at": None}
    assert await cortex.json("PATCH", f"/{number}", ignored) == before
    changed = await cortex.json("PATCH", f"/{number}", {"sync_config": {"b": 2}})
    assert (changed["sync_config"], changed["workspace_id"]) == ({"b": 2}, "w")
    changed = await cortex.json("PATCH", f"/{number}", {"workspace_id": "v", "provider_name": "nobody", "title": ""})
    assert (changed["sync_config"], changed["workspace_id"]) == ({"b": 2}, "v")
    assert (changed["provider_name"], changed["title"]) == ("nobody", "")
    nulls = dict.fromkeys(("title", "provider_name", "workspace_id", "sync_config"))
    reset = await cortex.json("PATCH", f"/{number}", nulls)
    assert {name: reset[name] for name in nulls} == {**nulls, "title": "New Chat Session"}
    assert await cortex.json("PATCH", "/999", {}, 404) == GONE
    assert reset["updated_at"] > before["updated_at"]
    assert reset["created_at"] == before["created_at"]


async def test_patches_at_once_each_change_their_own(cortex):
    number = await cortex.session()
    bodies = [{"workspace_id": f"w{place}"} for place in range(4)] + [{"sync_config": {"n": n}} for n in range(4)]
    await asyncio.gather(*(cortex.json("PATCH", f"/{number}", body) for body in bodies))
    after = await cortex.json("GET", f"/{number}")
    assert after["workspace_id"] in {f"w{place}" for place in range(4)}
    assert after["sync_config"] in [{"n": n} for n in range(4)]


async def test_after_its_end_every_path_of_a_session_is_404(cortex):
    number = await cortex.session()
    message = (await cortex.chat(number, "hi"))[0]["message_id"]
    assert (await cortex.audio(message)).status_code == 200
    assert await cortex.json("DELETE", f"/{number}") == {"message": "Session deleted successfully"}
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("POST", "/chat", {"prompt": "x"}),
        ("POST", "/cancel", None),
        ("GET", "/messages", None),
        ("POST", "/clear-history", None),
        ("GET", "/tokens", None),
        ("GET", "/nodes", None),
        ("POST", "/nodes", {"node_ids": ["n"]}),
        ("DELETE", "/nodes/n", None),
    ):
        assert await cortex.json(method, f"/{number}{path}", body, 404) == GONE, path
    assert (await cortex.http.get(f"/messages/{message}/audio")).status_code == 404
    assert (await cortex.audio(message)).status_code == 404
    assert await cortex.session() > number


async def test_a_list_is_of_one_user_and_one_feature_newest_first(cortex):
    first, second = await cortex.session(), await cortex.session()
    featured = await cortex.session(feature_name="f")
    await cortex.session(user_id="u-2")
    await cortex.json("PATCH", f"/{first}", {"title": "touched"})

    async def listed(query):
        return [one["id"] for one in await cortex.json("GET", f"/?{query}")]

    assert await listed("user_id=u-1") == [second, first]
    assert await listed("user_id=u-1&feature_name=default") == [second, first]
    assert await listed("user_id=u-1&feature_name=f") == [featured]
    for nothing in (
        "user_id=",
        "user_id=u-1&feature_name=",
        "user_id=u-1&feature_name=F",
        "user_id=u%25",
        "user_id=*",
        f"user_id={'u' * 300}",
        f"user_id=u-1&feature_name={'f' * 101}",
        "user_id=u-1%00",
        "user_id=%FF",
        "user_id=u-1&user_id=",
    ):
        assert await listed(nothing) == [], nothing


async def test_many_sessions_are_listed_and_deleted_to_the_last(cortex):
    await asyncio.gather(*(cortex.session() for _ in range(60)))
    assert len(await cortex.json("GET", "/?user_id=u-1")) == 60
    assert (await cortex.json("DELETE", "/?user_id=u-1"))["deleted"] == 60


async def test_deleting_all_deletes_what_the_same_query_lists_and_never_more(cortex):
    mine, featured = await cortex.session(), await cortex.session(feature_name="f")
    other = await cortex.session(user_id="u-2")
    nobodys = int((await cortex.server.http.post("/v1/sessions", json={})).json()["number"])
    for query in ("user_id=", "user_id=u-1&feature_name=", "user_id=*", "user_id=%FF", "user_id=%00"):
        assert await cortex.json("DELETE", f"/?{query}") == {"message": "Deleted 0 sessions", "deleted": 0}
    assert (await cortex.http.delete("/?feature_name=f")).status_code == 422
    assert await cortex.json("DELETE", "/?user_id=u-1") == {"message": "Deleted 1 sessions", "deleted": 1}
    assert await cortex.json("GET", f"/{mine}", status=404) == GONE
    for number in (featured, other, nobodys):
        assert (await cortex.json("GET", f"/{number}"))["id"] == number
    assert (await cortex.json("DELETE", "/?user_id=u-1&feature_name=f"))["deleted"] == 1


@pytest.mark.parametrize("query", ["?user_id=u-1", ""])
async def test_a_running_turn_is_cancelled_before_its_session_goes(cortex, query):
    number = await cortex.session()
    async with cortex.begun(number, ENDLESS) as lines:
        await cortex.json("DELETE", f"/{query}" if query else f"/{number}")
        assert (await rest(lines))[-1]["finish_reason"] == "cancelled"
    assert await cortex.json("GET", f"/{number}", status=404) == GONE


async def test_nodes_are_attached_once_shown_in_order_and_detached(cortex):
    number = await cortex.session(workspace_id="w")
    attached = await cortex.json("POST", f"/{number}/nodes", {"node_ids": ["n 2", "n-1", "n 2"]})
    assert list(attached) == ["session_id", "workspace_id", "nodes"]
    assert (attached["session_id"], attached["workspace_id"]) == (number, "w")
    assert list(attached["nodes"][0].items()) == [
        ("node_id", "n 2"),
        ("display_name", "n 2"),
        ("description", ""),
        ("capabilities", {}),
        ("available_skills", []),
        ("last_status", "offline"),
        ("last_seen_at", None),
        ("stats", {}),
        ("connected", False),
        ("sync_status", "pending"),
        ("status", "disconnected"),
        ("last_sync", None),
        ("error", None),
    ]
    await cortex.json("POST", f"/{number}/nodes", {"node_id": "n-1"})
    more = await cortex.json("POST", f"/{number}/nodes", {"node_id": "n-3", "node_ids": ["a\nb"]})
    assert [node["node_id"] for node in more["nodes"]] == ["n 2", "n-1", "a\nb"]
    assert await cortex.json("GET", f"/{number}/nodes") == more
    assert (await cortex.json("GET", f"/{number}"))["attached_node_ids"] == ["n 2", "n-1", "a\nb"]
    for written, node_id in (("n%202", "n 2"), ("a%0Ab", "a\nb")):
        told = await cortex.json("DELETE", f"/{number}/nodes/{written}")
        assert list(told.items()) == [("message", "Node detached"), ("node_id", node_id)]
        gone = await cortex.json("DELETE", f"/{number}/nodes/{written}", status=404)
        assert gone == {"detail": "Node not attached to this session"}
    assert (await cortex.json("GET", f"/{number}"))["attached_node_ids"] == ["n-1"]


async def test_a_node_id_that_no_path_can_name_is_refused_and_one_that_is_no_text_matches_nothing(cortex):
    number = await cortex.session()
    told = await cortex.json("POST", f"/{number}/nodes", {"node_ids": ["a", "b/c"]}, 422)
    assert [(row["type"], row["loc"]) for row in told["detail"]] == [("value_error", ["body", "node_ids", 1])]
    assert (await cortex.json("GET", f"/{number}/nodes"))["nodes"] == []
    await cortex.json("POST", f"/{number}/nodes", {"node_ids": ["\ufffd"]})
    for written in ("%FF", "%00"):
        told = await cortex.json("DELETE", f"/{number}/nodes/{written}", status=404)
        assert told == {"detail": "Node not attached to this session"}
    assert (await cortex.json("DELETE", f"/{number}/nodes/%EF%BF%BD"))["node_id"] == "\ufffd"


async def test_a_session_of_another_surface_is_listed_by_its_owner_under_the_default_feature(cortex):
    made = (await cortex.server.http.post("/v1/sessions", json={"owner": "u-1", "displayName": "G"})).json()
    await cortex.server.http.post("/v1/sessions", json={"owner": "u-2"})
    (listed,) = await cortex.json("GET", "/?user_id=u-1")
    assert (listed["id"], listed["title"], listed["feature_name"]) == (int(made["number"]), "G", "default")
    hidden = (await cortex.server.http.post("/v1/sessions", json={})).json()
    assert (await cortex.json("GET", f"/{hidden['number']}"))["user_id"] == ""
    archived = await cortex.server.http.post(f"/v1/{made['name']}:archive", json={})
    assert archived.status_code == 200
    assert await cortex.json("GET", f"/{listed['id']}", status=404) == GONE
    assert await cortex.json("GET", "/?user_id=u-1") == []
    assert (await cortex.json("DELETE", "/?user_id=u-1"))["deleted"] == 0


async def test_another_namespace_s_session_is_not_found(cortex):
    number = await cortex.session()
    headers = {"authorization": f"Bearer {await cortex.server.key(namespace='other')}"}
    await cortex.server.closed()
    assert await cortex.json("GET", f"/{number}", status=404, headers=headers) == GONE
    assert await cortex.json("GET", "/?user_id=u-1", headers=headers) == []
    assert (await cortex.json("DELETE", "/?user_id=u-1", headers=headers))["deleted"] == 0


async def test_at_the_root_a_slash_or_an_integer_makes_a_path_cortexs(sqlite_url):
    async with cortex_on(sqlite_url, prefix="") as cortex:
        number = await cortex.session()
        assert [one["id"] for one in await cortex.json("GET", "/?user_id=u-1")] == [number]
        for path in ("", "/messages", "/tokens", "/nodes"):
            assert "error" not in await cortex.json("GET", f"/{number}{path}")
        assert await cortex.json("POST", f"/{number}/messages", {}, 405) == {"detail": "Method Not Allowed"}
        message = (await cortex.chat(number, "hi"))[0]["message_id"]
        sent = (await cortex.audio(message)).json()
        assert sent["audio_path"] == f"{SESSIONS}/messages/{message}/audio"
        assert (await cortex.messages(number))[1]["audio_path"] == sent["audio_path"]
        assert (await cortex.server.http.get(sent["audio_path"])).content == b"sound"
        assert await cortex.json("POST", f"/{number}/clear-history") == {
            "message": "Chat history cleared",
            "deleted": 2,
        }
        assert "cancelled" in await cortex.json("POST", f"/{number}/cancel")
        assert (await cortex.http.get(f"/{number}/")).headers["location"].endswith(f"{SESSIONS}/{number}")
        assert await cortex.json("GET", "/messages/x/audio", status=422)
        alumia = (await cortex.server.http.post(SESSIONS, json={})).json()
        for path in (f"/{alumia['id']}/chat", f"/{alumia['id']}/", "/messages", "/x/tokens", "/1.0", "/%2B1"):
            told = await cortex.http.request("POST" if path.endswith("chat") else "GET", path)
            assert (told.status_code, told.json()["error"]["code"]) == (404, "NOT_FOUND"), path
        wrong = await cortex.server.http.delete(SESSIONS)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert (await cortex.server.http.get(SESSIONS)).json()["items"][0]["id"] == alumia["id"]
        assert (await cortex.json("DELETE", f"/{number}"))["message"] == "Session deleted successfully"
