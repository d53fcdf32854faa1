"""The files of a conversation that a model is sent: loaded before, within what a turn may load."""

from collections.abc import Sequence

from pydantic_ai.profiles import ModelProfile

from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwired.providers.base import NoAttachment, TurnContext
from turnwired.providers.model.conversation import accepts


async def loaded(turn: TurnContext, history: Sequence[Message], profile: ModelProfile) -> dict[str, bytes]:
    """The bytes of the stored attachments that the model takes, by resource name; all together `turn.attachment.most`.

    The newest come first: where not all of them fit, an old one is named and not sent.
    """
    files: dict[str, bytes] = {}
    left = turn.attachment.most
    for message in reversed(history):
        if message.role != ROLE_USER:
            continue
        for part in message.parts:
            name = part.attachment.attachment
            if not name or name in files or not accepts(part.attachment.media_type, profile):
                continue
            try:
                files[name] = await turn.attachment(name, left)
            except NoAttachment:
                continue
            left -= len(files[name])
    return files
