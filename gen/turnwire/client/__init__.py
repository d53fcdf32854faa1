"""An async client whose messages are dataclasses (betterproto2 over grpclib); needs the extra `turnwire[client]`.

    from grpclib.client import Channel
    from turnwire.client.v1 import GetSessionRequest, SessionServiceStub

    async with Channel("127.0.0.1", 50051) as channel:
        sessions = SessionServiceStub(channel)
        request = GetSessionRequest(name="sessions/s1")
        session = await sessions.get_session(request, metadata={"authorization": "Bearer K"})

Timestamps are `datetime`, durations `timedelta`, unset optional fields `None`. Ending a stream early (break, cancel)
cancels the call. A refusal is `grpclib.GRPCError`; its `details` hold the ErrorInfo.
"""
