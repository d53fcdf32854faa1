"""What this dialect is, and which requests at the server's root are its own. Source: contracts/alumia.md."""

import re
from typing import Final

from turnwired.dialects.alumia import replies, routes, turns
from turnwired.web.mount import Cors, Dialect, Operation

_SESSIONS: Final = "/api/v1/sessions"
_CHAT: Final = "/api/v1/chat"
_SESSION: Final = f"{_SESSIONS}/{{session_id}}"
_NUMBERED: Final = re.compile(rf"{_SESSIONS}/[0-9]+(/.*)?", re.DOTALL)
_AUDIO: Final = re.compile(rf"{_SESSIONS}/messages/[^/]*/audio")
_OF_A_CHAT: Final = re.compile(rf"{_CHAT}/[^/]+/(stream|stop|resume)")


def claims(method: str, path: str, body: object) -> bool:
    """Whether a request at the root is this dialect's and not another's.

    Sessions are its own but for Cortex's, whose ids are integers; of `/api/v1/chat` it has what LlamaCloud has not.
    Source: decisions.md, A17; contracts/cortex.md, section 10; contracts/llamacloud.md, section 2.
    """
    if path == _CHAT:
        asks = isinstance(body, dict) and ("messages" in body or isinstance(body.get("message"), dict))
        return method == "POST" and asks
    if path.startswith(f"{_CHAT}/"):
        return _OF_A_CHAT.fullmatch(path) is not None
    if path == _SESSIONS:
        return True
    of_cortex = path == f"{_SESSIONS}/" or _NUMBERED.fullmatch(path) or _AUDIO.fullmatch(path)
    return path.startswith(f"{_SESSIONS}/") and not of_cortex


DIALECT: Final = Dialect(
    name="alumia",
    title="Alumia, and the AI SDK's useChat",
    about="Sessions, messages, and turns as a UI message stream that the AI SDK 6 reads.",
    operations=(
        Operation("GET", _SESSIONS, routes.list_sessions, "List recent sessions"),
        Operation("POST", _SESSIONS, routes.create_session, "Create a session"),
        Operation("GET", _SESSION, routes.get_session, "Fetch one session"),
        Operation("PATCH", _SESSION, routes.update_session, "Update a session"),
        Operation("DELETE", _SESSION, routes.delete_session, "Delete a session"),
        Operation("GET", f"{_SESSION}/messages", routes.list_messages, "List messages, a page at a time"),
        Operation("POST", f"{_SESSION}/messages", routes.append_message, "Append a message"),
        Operation("POST", _CHAT, turns.chat, "Send a turn and stream the reply"),
        Operation("GET", f"{_CHAT}/{{session_id}}/stream", turns.stream, "Follow the running turn, or the session"),
        Operation("POST", f"{_CHAT}/{{session_id}}/stop", turns.stop, "Stop the turn in flight"),
        Operation("POST", f"{_CHAT}/{{session_id}}/resume", turns.resume, "Resume a session that awaits a peer"),
    ),
    answer=replies.refused,
    claims=claims,
    cors=Cors(
        methods=("GET", "POST", "PATCH", "DELETE"),
        headers=("authorization", "content-type", "last-event-id", "x-alumia-org"),
        exposed=("x-vercel-ai-ui-message-stream",),
    ),
)
