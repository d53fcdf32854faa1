"""Sessions with a long past, written straight into a store that no server has open: turns would take hours."""

import argparse
import json
from typing import Final

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwired.clock import SystemClock
from turnwired.config.database import DatabaseURL
from turnwired.config.settings import Settings
from turnwired.ids import RandomIds
from turnwired.rules.caller import Caller
from turnwired.store import messages, rows, sessions
from turnwired.store.db import Store
from turnwired.store.ending import account
from turnwired.store.migrate import migrate
from turnwired.store.tx import Held, Tx

_AT_ONCE: Final = 5_000
_ROLES: Final = (Role.ROLE_USER, Role.ROLE_ASSISTANT)


class Seeder:
    """Writes as a server would have, but in large transactions and without events: as if the log were compacted."""

    def __init__(self, url: str) -> None:
        self._clock, self._ids = SystemClock(), RandomIds()
        self._store = Store(DatabaseURL.parse(url), Settings().database)
        migrate(self._store)
        self._store.db.open()

    def session(self, count: int) -> str:
        """Make a session of so many messages, by turns of a user and an assistant. Gives its name."""
        made = self._tx()
        with made.savepoint(needed=False):
            session = sessions.create(made, Caller("default", open=True), CreateSessionRequest()).session
        made.db.commit()
        session_id = session.name.removeprefix("sessions/")
        for start in range(0, count, _AT_ONCE):
            tx = self._tx()
            with tx.savepoint(needed=False):
                held = tx.hold(session_id)
                for number in range(start, min(count, start + _AT_ONCE)):
                    _append(tx, held, number)
                held.touch("head_seq", "stored_totals")
            tx.db.commit()
        return session.name

    def close(self) -> None:
        """Leave the store to a server."""
        self._store.db.peewee.close()

    def _tx(self) -> Tx:
        self._store.db.begin_write()
        return Tx(self._store.db, self._clock.now_us(), self._ids, "bench", 0)


def _append(tx: Tx, held: Held, number: int) -> None:
    said = Message(role=_ROLES[number % 2], parts=[Part(text=Text(text=f"This is message {number} of a long past."))])
    message = Message(role=said.role, state=Message.STATE_COMPLETE)
    messages.compose(message, said)
    messages.number_message(tx, held, message)
    rows.publish(tx, held, message)
    rows.insert_message(tx, held, message)
    account(held, message, +1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("database", help="its URL")
    parser.add_argument("counts", type=int, nargs="+", help="how many messages each session gets")
    wanted = parser.parse_args()
    seeder = Seeder(wanted.database)
    print(json.dumps([seeder.session(count) for count in wanted.counts]))
    seeder.close()
