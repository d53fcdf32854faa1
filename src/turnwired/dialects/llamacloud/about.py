"""What this dialect is, and which requests at the server's root are its own. Source: contracts/llamacloud.md."""

import re
from typing import Final

from turnwired.dialects.llamacloud import replies, routes, turns
from turnwired.web.mount import Cors, Dialect, Operation

_CHAT: Final = "/api/v1/chat"
_SESSION: Final = f"{_CHAT}/{{session_id}}"
_OF_ALUMIA: Final = re.compile(rf"{_CHAT}/[^/]+/(stream|stop|resume)")


def claims(method: str, path: str, body: object) -> bool:
    """Whether a request at the root is this dialect's and not another's.

    All below `/api/v1/chat` but what is Alumia's: its chat turn, told by the body, and its paths of one chat.
    Source: decisions.md, A17; contracts/llamacloud.md, section 2.
    """
    if path == _CHAT:
        turn = isinstance(body, dict) and ("messages" in body or isinstance(body.get("message"), dict))
        return not (method == "POST" and turn)
    return path.startswith(f"{_CHAT}/") and _OF_ALUMIA.fullmatch(path) is None


DIALECT: Final = Dialect(
    name="llamacloud",
    title="LlamaCloud chat",
    about="Chat sessions bound to indexes, as the LlamaCloud SDKs of Python and TypeScript use them.",
    operations=(
        Operation("GET", _CHAT, routes.list_sessions, "List sessions"),
        Operation("POST", _CHAT, routes.create_session, "Create a session"),
        Operation("GET", _SESSION, routes.get_session, "Get a session with its events"),
        Operation("DELETE", _SESSION, routes.delete_session, "Delete a session"),
        Operation("GET", f"{_SESSION}/summary", routes.get_summary, "Get a session's summary"),
        Operation("POST", f"{_SESSION}/title", routes.set_title, "Make a session's title of a text"),
        Operation("POST", f"{_SESSION}/messages/stream", turns.stream, "Send a prompt and stream the turn"),
    ),
    answer=replies.refused,
    claims=claims,
    cors=Cors(
        methods=("GET", "POST", "DELETE"),
        headers=(
            "authorization",
            "content-type",
            *(
                f"x-stainless-{name}"
                for name in (
                    "arch",
                    "lang",
                    "os",
                    "package-version",
                    "retry-count",
                    "runtime",
                    "runtime-version",
                    "timeout",
                )
            ),
        ),
        exposed=("retry-after", "x-should-retry"),
    ),
)
