"""Update masks: which fields of a session a caller changes, and what that makes of them."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from turnwire.v1 import reason_pb2
from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import Session
from turnwired.errors import Fault

MAX_LABELS: Final = 64
"""How many labels a session may have. Source: turnwire.v1.Session."""

V = TypeVar("V")


def apply(session: Session, patch: Session, mask: FieldMask | None, mask_field: str = "update_mask") -> list[str]:
    """Change in `session` the fields of `patch` that `mask` names, and give the paths of what is different now.

    A field that is named and not set in `patch` is cleared; a cleared `state` is IDLE. Without paths in the mask every
    field that is set counts as named. Of `labels` and `metadata` each changed entry is given, as `labels.KEY`.
    FIELD_INVALID, which names `mask_field`, for a path that cannot be updated, and for a 65th label. Then `session` may
    be half changed: give a copy that can be thrown away. Source: UpdateSessionRequest.
    """
    changed: dict[str, None] = {}
    for path in mask.paths if mask is not None and mask.paths else _set_in(patch):
        changed.update(dict.fromkeys(_apply(session, patch, path, mask_field)))
    if len(session.labels) > MAX_LABELS:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"labels must be at most {MAX_LABELS}", field="labels")
    return list(changed)


def _set_in(patch: Session) -> Iterable[str]:
    if patch.HasField("display_name"):
        yield "display_name"
    if patch.agent:
        yield "agent"
    if patch.labels:
        yield "labels"
    if patch.metadata:
        yield "metadata"
    if patch.state:
        yield "state"


def _apply(session: Session, patch: Session, path: str, mask_field: str) -> Iterable[str]:
    match path.partition("."):
        case "display_name", "", "":
            return _display_name(session, patch)
        case "agent", "", "":
            before, session.agent = session.agent, patch.agent
            return [path] if before != session.agent else []
        case "state", "", "":
            before_state, session.state = session.state, patch.state or Session.STATE_IDLE
            return [path] if before_state != session.state else []
        case "labels", dot, key if bool(dot) == bool(key):
            return _entries("labels", key, session.labels, patch.labels, session.labels.__setitem__)
        case "metadata", dot, key if bool(dot) == bool(key):
            # A surface without a value has none: what is kept is what a reader can use.
            given = {surface: json for surface, json in patch.metadata.items() if json.text}
            return _entries("metadata", key, session.metadata, given, _setter(session.metadata))
        case _:
            text = f"{mask_field} has a path that is not display_name, agent, labels, metadata or state"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, text, field=mask_field)


def _display_name(session: Session, patch: Session) -> list[str]:
    before = session.display_name if session.HasField("display_name") else None
    after = patch.display_name if patch.HasField("display_name") else None
    if after is None:
        session.ClearField("display_name")
    else:
        session.display_name = after
    return ["display_name"] if before != after else []


def _entries(
    field: str, key: str, stored: MutableMapping[str, V], given: Mapping[str, V], put: Callable[[str, V], None]
) -> list[str]:
    named = [key] if key else sorted({*stored, *given})
    changed = []
    for name in named:
        before, after = stored.get(name), given.get(name)
        if before == after:
            continue
        if after is None:
            del stored[name]
        else:
            put(name, after)
        changed.append(f"{field}.{name}")
    return changed


def _setter(metadata: Mapping[str, Json]) -> Callable[[str, Json], None]:
    # A map of messages takes no assignment.
    return lambda surface, json: metadata[surface].CopyFrom(json)
