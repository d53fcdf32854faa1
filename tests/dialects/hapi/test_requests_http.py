"""What turns ask for, and what became of messages. Source: contracts/hapi.md, section 8."""

OK = {"ok": True}
BAD_BODY = {"error": "Invalid body"}


async def test_which_messages_were_taken_up_is_told_of_those_that_are_known(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}/messages/queued-state"
    await hapi.send(session, "one", "l1")
    await hapi.send(session, "two", "l2")
    rows = {row["localId"]: row for row in await hapi.messages(session)}
    asked = {"localIds": ["l2", "none", "l1", "l2", "x" * 300]}
    assert await hapi.json("POST", path, asked) == {
        "queuedLocalIds": [],
        "indeterminateLocalIds": [],
        "invokedLocalMessages": [{"localId": one, "invokedAt": rows[one]["invokedAt"]} for one in ("l2", "l1")],
    }
    nothing = {"queuedLocalIds": [], "indeterminateLocalIds": [], "invokedLocalMessages": []}
    assert await hapi.json("POST", path, {"localIds": []}) == nothing
    assert await hapi.json("POST", path, {"localIds": [f"i{n}" for n in range(1_000)]}) == nothing
    bad = [{}, {"localIds": None}, {"localIds": "l1"}, {"localIds": [1]}, {"localIds": [""]}, [], b"{"]
    for body in [*bad, {"localIds": [f"i{n}" for n in range(1_001)]}]:
        assert await hapi.json("POST", path, body, 400) == BAD_BODY


async def test_a_message_is_withdrawn_from_no_queue(hapi):
    session = await hapi.session()
    await hapi.say(session, "one", "l/1 ü")
    (row, _) = await hapi.messages(session)
    path = f"/api/sessions/{session}/messages"
    for name in (row["id"], "l%2F1%20%C3%BC"):
        assert await hapi.json("DELETE", f"{path}/{name}") == {"status": "invoked", "message": row}
    for name in ("none", session, "%00", "x" * 300, "~n1"):
        assert await hapi.json("DELETE", f"{path}/{name}") == {"status": "cancelled", "localId": None}
    assert len(await hapi.messages(session)) == 2


async def test_what_is_asked_for_is_approved_or_denied_once(hapi):
    session = await hapi.session()
    for verdict, body, shown in [
        ("approve", None, "gone"),
        ("approve", {"mode": "default", "allowTools": ["rm"], "decision": "approved_for_session"}, "gone"),
        ("deny", {"reason": "no"}, None),
        ("approve", {"decision": "denied"}, None),
    ]:
        await hapi.send(session, '/ask rm {"a":1} => "gone"\n/say after')
        request = await hapi.asked(session)
        state = (await hapi.shown(session))["agentState"]
        assert (state["requests"][request]["tool"], state["requests"][request]["arguments"]) == ("rm", {"a": 1})
        path = f"/api/sessions/{session}/permissions/{request}"
        for bad in (b"[]", {"decision": "maybe"}, {"mode": 1}, {"allowTools": [1]}, {"answers": []}):
            assert await hapi.json("POST", f"{path}/approve", bad, 400) == BAD_BODY
        assert await hapi.json("POST", f"{path}/{verdict}", body) == OK
        await hapi.idle(session)
        state = (await hapi.shown(session))["agentState"]
        assert state["requests"] == {}
        assert state["completedRequests"][request]["status"] == ("approved" if shown else "denied")
        assert await hapi.json("POST", f"{path}/{verdict}", body, 404) == {"error": "Request not found"}
        assert (await hapi.messages(session))[-1]["content"]["text"] == "after"
    assert await hapi.json("POST", f"/api/sessions/{session}/permissions/none/deny", {}, 404) == {
        "error": "Request not found"
    }


async def test_a_send_while_a_turn_waits_is_recorded_and_served_behind_it(hapi):
    session = await hapi.session()
    await hapi.send(session, '/ask rm {} => "gone"')
    request = await hapi.asked(session)
    await hapi.send(session, "behind", "l1")
    rows = await hapi.messages(session)
    # The row of a turn that waits is not complete, so it is not there yet.
    assert [row["content"]["role"] for row in rows] == ["user", "user"]
    assert await hapi.json("POST", f"/api/sessions/{session}/permissions/{request}/approve") == OK
    await hapi.idle(session)
    assert [row["content"]["text"] for row in await hapi.messages(session)][-1] == "behind"
    assert (await hapi.page(session))["page"]["epoch"] == 0
