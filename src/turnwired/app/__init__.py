"""The only place where the server's objects are made, started and stopped."""
