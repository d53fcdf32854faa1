"""Rows: Peewee models, and transactions that take plain messages and return them. Peewee is known here only."""
