"""What nodes need of the rest of the server, and how a broken rule is told."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.store.db import Connection
from turnwired.store.tx import Tx

P = ParamSpec("P")
T = TypeVar("T")


class Journal(Protocol):
    """Writes and reads the store. `eventlog.journal.Journal` is one."""

    process: str
    """This process's name among those over the store."""

    async def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of a transaction, and give its result once that is committed."""
        ...

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of a connection in a reading transaction."""
        ...


def broken(rule: str, text: str) -> Fault:
    """The refusal of a node that broke a rule of its stream. Source: node_service.proto, Connect."""
    return Fault(reason_pb2.REASON_NODE_PROTOCOL, text, rule=rule)
