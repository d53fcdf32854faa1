"""Files for agents: loaded within a limit, from the turn's own session alone, and sent to a model that takes them."""

from collections.abc import AsyncIterator, Sequence

import pytest
from pydantic_ai.messages import BinaryContent, ModelMessage
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.profiles import ModelProfile

from tests.attachments.files import content, delete, digest, files, message, upload
from tests.attachments.test_uses import expire, naming
from tests.fixtures.api import Api, ended, events, serving
from tests.providers.playing import context
from turnwire.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER, Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import ChatRequest
from turnwired.config.agents import ModelAgent
from turnwired.config.settings import Settings
from turnwired.providers.base import NoAttachment
from turnwired.providers.model.files import loaded
from turnwired.providers.model.runner import Runner
from turnwired.providers.model.tools import Tools

MOST = 300_000


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(
        {
            "agents": {"reader": {"kind": "python", "entry": "tests.attachments.agent:answer"}},
            "default_agent": "agents/reader",
            "turns": {"attachment_bytes": MOST},
        }
    )


async def answered(api: Api, session: str, *parts: Part) -> str:
    said = Message(role=ROLE_USER, parts=parts)
    found = await events(api.turns.Chat(ChatRequest(parent=session, message=said, agent="agents/reader")))
    assert ended(found).state == Turn.STATE_SUCCEEDED
    return "".join(event.text_delta.text for event in found)


async def test_an_agent_gets_the_bytes_of_what_it_is_sent(near: Api) -> None:
    session = await near.session()
    data = content(MOST)
    made = await upload(near, session.name, data)
    assert await answered(near, session.name, naming(made.name)) == f"{MOST} {digest(data)}\n"


async def test_an_agent_loads_no_more_than_it_may(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, content(MOST + 1))
    said = await answered(near, session.name, naming(made.name))
    assert said == f"no: {made.name} has {MOST + 1} bytes, which is more than {MOST}\n"


async def test_an_agent_loads_nothing_of_another_session(near: Api) -> None:
    session, other = await near.session(), await near.session()
    theirs = await upload(near, other.name, b"x")
    as_ours = theirs.name.replace(other.name, session.name)
    names = (theirs.name, as_ours, theirs.name.replace(other.name, "sessions/-"), "../../etc/passwd", "x")
    said = await answered(near, session.name, Part(text=Text(text=" ".join(names))))
    assert said == "".join(f"no: the session has no attachment {name}\n" for name in names)


async def test_what_went_after_it_was_named_is_not_there(sqlite_url: str, settings: Settings) -> None:
    async with serving(sqlite_url, "in process", settings) as api:
        session = await api.session()
        made, lost = await upload(api, session.name, b"x"), await upload(api, session.name, b"y")
        await delete(api, made.name)
        next(path for path in files(sqlite_url) if path.name == lost.name.rpartition("/")[2]).unlink()
        said = await answered(api, session.name, Part(text=Text(text=f"{made.name} {lost.name}")))
        assert said == "".join(f"no: the session has no attachment {one.name}\n" for one in (made, lost))


async def test_what_an_agent_names_in_its_answer_is_in_use(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    await answered(near, session.name, Part(text=Text(text=made.name)))
    assert await expire(near, 2**60) == 0
    assert not (await message(near, session.name)).has_audio


class Shelf:
    """Files by name, and what was asked for."""

    def __init__(self, most: int, **stored: bytes) -> None:
        self.most = most
        self.stored = stored
        self.asked: list[str] = []

    async def __call__(self, name: str, most: int | None = None) -> bytes:
        self.asked.append(name)
        if name not in self.stored or len(self.stored[name]) > (self.most if most is None else most):
            raise NoAttachment(name)
        return self.stored[name]


def sent(*names: str, role: int = ROLE_USER, media_type: str = "image/png") -> Message:
    parts = [Part(text=Text(text="look"))]
    parts += [naming(name, media_type=media_type) for name in names]
    return Message(role=role, parts=parts)  # type: ignore[arg-type]


async def test_the_newest_files_that_fit_are_loaded_once_each() -> None:
    shelf = Shelf(10, a=bytes(6), b=bytes(6), c=bytes(4))
    history = [sent("a"), sent("b", "none"), sent("c", "b")]
    files = await loaded(context(attachment=shelf), history, ModelProfile())
    assert files == {"c": bytes(4), "b": bytes(6)}
    assert shelf.asked.count("b") == shelf.asked.count("c") == 1


async def test_only_what_the_model_takes_is_loaded() -> None:
    shelf = Shelf(100, a=b"1", b=b"2", c=b"3")
    history = [sent("a", role=ROLE_ASSISTANT), sent("b"), sent("c", media_type="application/zip")]
    assert await loaded(context(attachment=shelf), history, ModelProfile(supports_image_input=False)) == {}
    assert shelf.asked == []


@pytest.mark.parametrize(
    ("media_type", "shown"),
    [("image/png", "image/png"), ("audio/x-wav; rate=8000", "audio/wav"), ("Application/PDF", "application/pdf")],
)
async def test_a_model_is_sent_the_stored_bytes(media_type: str, shown: str) -> None:
    asked: list[Sequence[ModelMessage]] = []

    async def stream(messages: list[ModelMessage], _info: object) -> AsyncIterator[str]:
        asked.append(list(messages))
        yield "seen"

    runner = Runner(ModelAgent(model="function"), {}, model=FunctionModel(stream_function=stream), tools=Tools([]))
    history = [sent("a", "b", media_type=media_type)]

    async def past(_limit: int | None = None) -> list[Message]:
        return history

    turn = context(attachment=Shelf(100, a=b"bytes"), history=past)
    assert [output async for output in runner.run(turn)]
    await runner.close()
    text, file, named = asked[0][0].parts[-1].content
    assert text == "look" and isinstance(file, BinaryContent)
    assert (file.data, file.media_type) == (b"bytes", shown)
    # What could not be loaded is told by its name.
    assert isinstance(named, str) and named.startswith("[Attached: ")
