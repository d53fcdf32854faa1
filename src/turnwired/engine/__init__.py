"""The engine: it claims recorded turns, runs their agents, and writes what they say. No handler ever calls it."""
