"""The gRPC services: each handler reads, makes one call, and writes."""
