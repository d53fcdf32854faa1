"""turnwire's server: sessions, messages and turns over gRPC, and what speaks HTTP beside it."""
