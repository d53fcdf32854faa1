"""What a store that is locked, full or gone raises."""

import peewee

StoreError = (peewee.OperationalError, peewee.InterfaceError, peewee.InternalError)
"""Errors of the store itself, not of a statement: trying again may do better. InternalError: it lets nobody write."""

AnyStoreError = (peewee.PeeweeException,)
"""All that a database may raise: what is no database, or not ours, says so in its first statement."""
