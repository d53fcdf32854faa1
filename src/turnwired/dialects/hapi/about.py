"""What this dialect is, and which requests at the server's root are its own. Source: contracts/hapi.md."""

from typing import Final

from turnwired.dialects.hapi import events, hosts, pages, replies, routes, turns, uploads
from turnwired.web.mount import Cors, Dialect, Operation

_SESSIONS: Final = "/api/sessions"
_SESSION: Final = f"{_SESSIONS}/{{id}}"
_MESSAGES: Final = f"{_SESSION}/messages"
_REQUEST: Final = f"{_SESSION}/permissions/{{request_id}}"
_OTHERS: Final = "/api/v1"


def claims(_method: str, path: str, _body: object) -> bool:
    """Whether a request at the root is this dialect's: all of `/api` but `/api/v1`, `/cli`, and `/health`.

    Source: decisions.md, A26.
    """
    if path == _OTHERS or path.startswith(f"{_OTHERS}/"):
        return False
    return path in {"/api", "/cli", "/health"} or path.startswith(("/api/", "/cli/"))


DIALECT: Final = Dialect(
    name="hapi",
    title="HAPI web client",
    about="Sessions, messages and one stream of events, as the HAPI hub has them; its clients sign in for a token.",
    operations=(
        Operation("GET", "/health", routes.health, "Say that the hub is there"),
        Operation("POST", "/api/auth", routes.sign_in, "Exchange an access token for a token"),
        Operation("POST", "/cli/sessions", routes.create_session, "Create a session, or get the one of a tag"),
        Operation("GET", "/api/events", events.events, "Follow what happens"),
        Operation("POST", "/api/visibility", routes.visibility, "Say whether a page is visible"),
        Operation("GET", "/api/machines", hosts.list_machines, "List what can serve the namespace"),
        Operation("POST", "/api/machines/{id}/spawn", hosts.spawn, "Begin a session on a machine"),
        Operation("GET", _SESSIONS, routes.list_sessions, "List sessions"),
        Operation("GET", _SESSION, routes.get_session, "Read a session"),
        Operation("PATCH", _SESSION, routes.rename, "Name a session"),
        Operation("DELETE", _SESSION, routes.delete_session, "Delete an inactive session for good"),
        Operation("POST", f"{_SESSION}/abort", turns.abort, "End the running turn"),
        Operation("POST", f"{_SESSION}/archive", routes.archive, "Archive a session"),
        Operation("POST", f"{_SESSION}/resume", routes.resume, "Restore an archived session"),
        Operation("POST", f"{_SESSION}/reopen", routes.reopen, "Restore an archived session"),
        Operation("POST", f"{_SESSION}/switch", routes.switch, "Take a session over from a terminal"),
        Operation("GET", _MESSAGES, pages.list_messages, "List messages, a page at a time"),
        Operation("POST", _MESSAGES, turns.send, "Send a message"),
        Operation("POST", f"{_MESSAGES}/queued-state", routes.queued_state, "Tell which messages were taken up"),
        Operation("DELETE", f"{_MESSAGES}/{{message_id}}", routes.delete_message, "Withdraw a message"),
        Operation("POST", f"{_SESSION}/upload", uploads.upload, "Upload a file"),
        Operation("POST", f"{_SESSION}/upload/delete", uploads.delete, "Delete an uploaded file"),
        Operation("POST", f"{_REQUEST}/approve", turns.approve, "Approve a request"),
        Operation("POST", f"{_REQUEST}/deny", turns.deny, "Deny a request"),
        Operation("GET", f"{_SESSION}/slash-commands", routes.slash_commands, "List slash commands: none"),
        Operation("GET", f"{_SESSION}/skills", routes.skills, "List skills: none"),
    ),
    answer=replies.refused,
    claims=claims,
    cors=Cors(methods=("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
    # What a token is worth is told by the API, before anything else of a request is looked at.
    key_first=False,
)
