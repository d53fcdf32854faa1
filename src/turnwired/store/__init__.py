"""Rows: Peewee models, and transaction functions that take plain messages and return them. Peewee is known here only."""
