"""What this dialect is, and which requests at the server's root are its own. Source: contracts/cortex.md."""

import re
from typing import Final

from turnwired.dialects.cortex import audio, chat, redirects, replies, routes
from turnwired.web.mount import ANY_METHOD, Cors, Dialect, Operation

_SESSIONS: Final = "/api/v1/sessions"
_SESSION: Final = f"{_SESSIONS}/{{session_id}}"
_AUDIO: Final = f"{_SESSIONS}/messages/{{message_id}}/audio"
_NODE: Final = f"{_SESSION}/nodes/{{node_id}}"
_CLAIMED: Final = re.compile(rf"{_SESSIONS}/(?:|[0-9]+(?:/.*)?|messages/[^/]*/audio)", re.DOTALL)


def claims(_method: str, path: str, _body: object) -> bool:
    """Whether a request at the root is this dialect's and not Alumia's. Source: contracts/cortex.md, section 10."""
    return _CLAIMED.fullmatch(path) is not None


_OWN: Final = (
    Operation("POST", f"{_SESSIONS}/", routes.create_session, "Create a session"),
    Operation("GET", f"{_SESSIONS}/", routes.list_sessions, "List a user's sessions"),
    Operation("DELETE", f"{_SESSIONS}/", routes.delete_sessions, "Delete a user's sessions of one feature"),
    # Before the session's own paths: `messages` is no id.
    Operation("POST", _AUDIO, audio.upload, "Give a message its audio"),
    Operation("GET", _AUDIO, audio.download, "Fetch a message's audio"),
    Operation("GET", _SESSION, routes.get_session, "Fetch one session"),
    Operation("PATCH", _SESSION, routes.update_session, "Update a session"),
    Operation("DELETE", _SESSION, routes.delete_session, "Delete a session"),
    Operation("POST", f"{_SESSION}/chat", chat.chat, "Send a prompt and stream the reply"),
    Operation("POST", f"{_SESSION}/cancel", routes.cancel, "Cancel whatever runs"),
    Operation("GET", f"{_SESSION}/messages", routes.list_messages, "List messages"),
    Operation("POST", f"{_SESSION}/clear-history", routes.clear_history, "Remove all messages"),
    Operation("GET", f"{_SESSION}/tokens", routes.tokens, "Count a session's tokens"),
    Operation("POST", f"{_SESSION}/nodes", routes.attach_nodes, "Attach nodes"),
    Operation("GET", f"{_SESSION}/nodes", routes.list_nodes, "List attached nodes"),
    Operation("DELETE", _NODE, routes.detach_node, "Detach a node"),
)

_MISPLACED: Final = (
    Operation(ANY_METHOD, _SESSIONS, redirects.with_slash, "The collection has a slash"),
    *(
        Operation(ANY_METHOD, f"{path}/", redirects.without_slash, "Nothing else has one")
        for path in dict.fromkeys(operation.path for operation in _OWN)
        if not path.endswith("/")
    ),
)

DIALECT: Final = Dialect(
    name="cortex",
    title="Cortex Hub sessions",
    about="Sessions with integer ids, turns as a stream of tokens and tool executions, audio, attached nodes.",
    operations=(*_OWN, *_MISPLACED),
    answer=replies.refused,
    claims=claims,
    cors=Cors(methods=("GET", "POST", "PATCH", "DELETE")),
    route_first=True,
    split_decoded=True,
)
