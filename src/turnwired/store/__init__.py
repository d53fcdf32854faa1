"""Rows: Peewee models, and transaction functions that take plain messages and return them. Only here is peewee known."""
