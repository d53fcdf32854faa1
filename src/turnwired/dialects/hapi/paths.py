"""The opaque references that uploads get, and which attachment each one means. Source: contracts/hapi.md, section 6."""

import re
from dataclasses import dataclass
from typing import Final

from turnwired.rules import names

_ROOT: Final = "/hapi-uploads"
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FORM: Final = re.compile(rf"{_ROOT}/({_UUID})/({_UUID})/([^/\\]+)", re.DOTALL)
_STEPS: Final = re.compile(r"[/\\]|\.\.+")


@dataclass(frozen=True, slots=True)
class Place:
    """An attachment of a session."""

    session_id: str
    attachment_id: str

    @property
    def name(self) -> str:
        """Its resource name."""
        return names.attachment(self.session_id, self.attachment_id)


def made(name: str, filename: str) -> str:
    """The path of a stored attachment. It names nothing in any file system."""
    _, session_id, _, attachment_id = name.split("/")
    return f"{_ROOT}/{session_id}/{attachment_id}/{_STEPS.sub('_', filename)}"


def parse(path: str) -> Place | None:
    """The attachment that a path means; None for a path that no upload gave."""
    match = _FORM.fullmatch(path)
    return None if match is None or ".." in match[3] else Place(match[1], match[2])
