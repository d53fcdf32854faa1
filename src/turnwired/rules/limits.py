"""What the proto comments say of the sizes of what comes in, as one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

SURFACE_LABEL: Final = "[a-z0-9._-]"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a field may hold. 0 and empty: no limit of this kind."""

    characters: int = 0
    """Code points of a string, or of each one of a list or map."""
    least: int = 0
    """Code points that a string has at least, if it is set; or each one of a list."""
    alphabet: str = ""
    """The characters of a string, as a class of a regular expression."""
    entries: int = 0
    """Entries of a list or map."""
    key_characters: int = 0
    """Code points of a map's key; a key is never empty."""
    key_alphabet: str = ""
    """The characters of a map's key."""
    size: int = 0
    """Bytes of a message, of a JSON text, or of bytes; or of each one of a map."""
    not_negative: bool = False
    """Whether a number must not be below 0."""


LIMITS: Final[Mapping[str, Limit]] = MappingProxyType(
    {
        "Session.display_name": Limit(characters=255),
        "Session.labels": Limit(entries=64, key_characters=63, key_alphabet=SURFACE_LABEL, characters=255),
        "Session.metadata": Limit(entries=64, key_characters=64, size=64 * _KIB),
        "Session.owner": Limit(characters=255),
        "Session.origin": Limit(characters=64),
        "Session.aliases": Limit(entries=16),
        "Alias.scope": Limit(characters=64, alphabet=SURFACE_LABEL),
        "Alias.value": Limit(characters=512),
        "UnarchiveSessionRequest.display_name": Limit(characters=255),
        "ForkSessionRequest.display_name": Limit(characters=255),
        "Message.client_id": Limit(characters=255),
        "Message.source": Limit(characters=64),
        "Message.metadata": Limit(entries=64, key_characters=64),
        "CreateMessageRequest.message": Limit(size=4 * _MIB),
        "ListMessagesRequest.client_ids": Limit(entries=1_000, characters=255),
        "ChatRequest.message": Limit(size=4 * _MIB),
        "ChatRequest.request_id": Limit(characters=128),
        "ChatRequest.model": Limit(characters=255),
        "ChatRequest.source": Limit(characters=64),
        "ChatRequest.metadata": Limit(entries=64, key_characters=64),
        "ChatRequest.attach_metadata": Limit(entries=64, characters=64),
        "Attachment.media_type": Limit(characters=255),
        "Attachment.filename": Limit(characters=255),
        "Attachment.slot": Limit(characters=64),
        "Attachment.client_record": Limit(size=64 * _KIB),
        "UploadAttachmentRequest.chunk": Limit(size=_MIB),
        "UploadAttachmentRequest.Start.size": Limit(not_negative=True),
        "DownloadAttachmentRequest.limit": Limit(not_negative=True),
        "AttachNodesRequest.node_ids": Limit(entries=100, least=1, characters=255),
        "Hello.node_id": Limit(least=1, characters=255),
        "Hello.display_name": Limit(characters=255),
        "Hello.description": Limit(characters=1_000),
        "Hello.capabilities": Limit(entries=64, key_characters=64),
        "Hello.skills": Limit(entries=256, least=1, characters=255),
        "Hello.agents": Limit(entries=64),
        "Hello.capacity": Limit(not_negative=True),
        "Hello.instance_id": Limit(characters=64),
        "ServedAgent.agent_id": Limit(least=1, characters=128),
        "ServedAgent.display_name": Limit(characters=255),
        "ServedAgent.avatar": Limit(characters=2_048),
        "ServedAgent.context_window": Limit(not_negative=True),
        "SyncReport.error": Limit(characters=1_000),
        "Heartbeat.stats": Limit(size=16 * _KIB),
        "Key.namespace": Limit(characters=64, alphabet="[a-zA-Z0-9._-]"),
        "Key.rate_per_minute": Limit(not_negative=True),
        "Key.token_quota": Limit(not_negative=True),
        "Key.display_name": Limit(characters=255),
        "ExchangeTokenRequest.namespace": Limit(characters=64, alphabet="[a-zA-Z0-9._-]"),
    }
)
"""The limit of a field, by its message and name in turnwire.v1.

As the fields' comments have it; besides, metadata has at most 64 surfaces, with names of at most 64 characters.
"""

NAME: Final = Limit(characters=8 * _KIB)
"""A resource name: the longest that can be, an alias of 512 characters with an agent, is shorter."""

ENTRIES: Final = 1_000
"""Entries of a list or map that has no limit of its own."""
