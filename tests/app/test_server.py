"""A whole server: what each surface shows of one session, and what the server says of itself."""


async def test_a_session_made_on_one_surface_is_there_on_the_others(server):
    made = (await server.http.post("/v1/sessions", json={"displayName": "Trip"})).json()
    session = made["name"].removeprefix("sessions/")
    seen = (await server.http.get(f"/alumia/api/v1/sessions/{session}")).json()
    assert seen["label"] == "Trip"
