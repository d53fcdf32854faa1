"""The parts of a gRPC channel without sockets; `turnwired.web.channel` is its face."""
