"""Version 1 of the API: one module a proto file, `from turnwire.v1 import turn_pb2 as pb`."""
