"""What turnwire speaks, generated from its protos: never edit it, run `make generate`."""
