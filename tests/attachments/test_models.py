"""Files on their way from an upload to a model's endpoint, as the endpoint reads them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.attachments.files import content, upload
from tests.attachments.test_uses import naming
from tests.fixtures.api import ended, events, serving
from tests.fixtures.core import said
from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import ChatRequest
from turnwired.config.settings import Settings

ANSWER = (
    'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    '{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


@asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[str, list[Any]]]:
    """A model's server: its base URL, and the bodies that it was sent."""
    bodies: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{ANSWER}".encode()
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", bodies


async def asked(url: str, monkeypatch: pytest.MonkeyPatch, *media_types: str) -> list[dict[str, Any]]:
    """What the model is asked, when a message names files of these types."""
    monkeypatch.setenv("SOME_KEY", "k")
    async with endpoint() as (base_url, bodies):
        agent = {"kind": "model", "model": "m", "base_url": base_url, "api_key_env": "SOME_KEY"}
        settings = Settings.model_validate({"agents": {"eye": agent}})
        async with serving(url, "socket", settings) as api:
            session = await api.session()
            parts = [Part(text=Text(text="What is it?"))]
            for number, media_type in enumerate(media_types):
                made = await upload(api, session.name, content(600_000, str(number)), media_type=media_type)
                parts.append(naming(made.name))
            message = Message(role=ROLE_USER, parts=parts)
            found = await events(api.turns.Chat(ChatRequest(parent=session.name, message=message, agent="agents/eye")))
            assert (ended(found).state, said(found)) == (Turn.STATE_SUCCEEDED, "Hello")
    (body,) = bodies
    (sent,) = body["messages"]
    text, *files = sent["content"]
    assert text == {"type": "text", "text": "What is it?"}
    sent_files: list[dict[str, Any]] = files
    return sent_files


def encoded(number: int) -> str:
    return base64.b64encode(content(600_000, str(number))).decode()


async def test_an_image_and_a_recording_reach_the_model(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image, audio = await asked(store_url, monkeypatch, "image/png", "audio/wav")
    assert image["type"] == "image_url"
    assert image["image_url"]["url"] == f"data:image/png;base64,{encoded(0)}"
    assert audio["type"] == "input_audio"
    assert audio["input_audio"]["format"] == "wav"
    assert audio["input_audio"]["data"].removeprefix("data:audio/wav;base64,") == encoded(1)


@pytest.mark.parametrize(
    "media_type",
    [
        "audio/webm",
        "audio/webm;codecs=opus",
        "audio/ogg",
        "image/svg+xml",
        "video/mp4",
        "application/zip",
        "text/plain",
    ],
)
async def test_a_file_that_no_model_takes_is_named_and_fails_no_turn(
    media_type: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (named,) = await asked(sqlite_url, monkeypatch, media_type)
    assert named["text"].startswith("[Attached: a file (")
