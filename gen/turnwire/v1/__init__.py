"""Version 1 of the API: one module a proto file, `from turnwire.v1 import turn_pb2 as pb`.

In annotations an enum's type is `Reason.ValueType`. `SessionServiceStub(channel)` on a grpc.aio channel is typed
`SessionServiceAsyncStub`, a name that only type checkers know: write it where annotations are not evaluated.
"""
