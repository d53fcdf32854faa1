"""The trace that a turn belongs to: whoever runs it, in whatever process, goes on with it."""

STATEMENTS = ("ALTER TABLE turn ADD COLUMN trace {text}",)
