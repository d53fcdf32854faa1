"""What a store that is locked, full or gone raises."""

import peewee

StoreError = (peewee.OperationalError, peewee.InterfaceError)
"""Errors of the store itself, not of a statement: trying again may do better."""
