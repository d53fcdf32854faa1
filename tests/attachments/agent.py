"""An agent that loads the files of what it is asked, and says what it got."""

import hashlib
from collections.abc import AsyncGenerator

from turnwired.providers.base import NoAttachment, TurnContext
from turnwired.providers.output import FileOut, Output


async def answer(turn: TurnContext) -> AsyncGenerator[Output, None]:
    wanted = [part.attachment.attachment for part in turn.parts if part.HasField("attachment")]
    wanted += turn.text.split()
    for name in wanted:
        try:
            data = await turn.attachment(name)
        except NoAttachment as none:
            yield f"no: {none}\n"
        else:
            yield f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"
    for name in wanted[:1]:
        if name.startswith(turn.session.name):
            yield FileOut("image/png", attachment=name)
