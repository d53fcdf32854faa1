"""Pure functions and values over messages: no I/O, no clock, no gRPC."""
