"""Hints between processes: ids, never facts. A lost one costs a poll, never data."""
