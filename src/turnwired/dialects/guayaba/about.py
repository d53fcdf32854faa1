"""What this dialect is, and which requests at the server's root are its own. Source: contracts/guayaba.md."""

from typing import Final

from turnwired.dialects.guayaba import chat, replies, routes
from turnwired.web.mount import Cors, Dialect, Operation

_AGENTS: Final = "/api/v1/agents"
_AGENT: Final = f"{_AGENTS}/{{id}}"


def claims(_method: str, path: str, _body: object) -> bool:
    """Whether a request at the root is this dialect's: no other has agents. Source: contracts/guayaba.md, section 1."""
    return path == _AGENTS or path.startswith(f"{_AGENTS}/")


DIALECT: Final = Dialect(
    name="guayaba",
    title="Guayaba agent sessions",
    about="An agent's sessions: chat, history, labels, archives; with master keys and keys of one agent.",
    operations=(
        Operation("GET", f"{_AGENT}/sessions", routes.list_sessions, "List an agent's sessions"),
        Operation("POST", f"{_AGENT}/sessions/history", routes.history, "Read a session's newest messages"),
        Operation("POST", f"{_AGENT}/sessions/rename", routes.rename, "Label a session"),
        Operation("POST", f"{_AGENT}/sessions/archive", routes.archive, "Archive a session"),
        Operation("POST", f"{_AGENT}/sessions/delete", routes.delete, "Delete a session for good"),
        Operation("GET", f"{_AGENT}/archives", routes.list_archives, "List archived sessions"),
        Operation("POST", f"{_AGENT}/archives/restore", routes.restore, "Restore an archived session"),
        Operation("POST", f"{_AGENT}/archives/delete", routes.delete_archive, "Delete an archived session for good"),
        Operation("POST", f"{_AGENT}/chat", chat.chat, "Send a message; wait for the reply or stream it"),
    ),
    answer=replies.refused,
    claims=claims,
    cors=Cors(methods=("GET", "POST")),
)
