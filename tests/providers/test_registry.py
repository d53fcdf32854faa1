"""From settings to agents."""

import uuid

import pytest

from turnwire.v1.agent_pb2 import Agent
from turnwired.config.problems import SettingsError
from turnwired.config.settings import Settings
from turnwired.providers.echo import Echo
from turnwired.providers.registry import Registry


def registry(**agents: dict) -> Registry:
    return Registry(Settings.model_validate({"agents": agents}))


def test_a_fresh_install_has_echo():
    made = Registry(Settings())
    [row] = made.agents()
    assert isinstance(made.get("echo"), Echo)
    assert (row.name, row.agent_id, row.display_name, row.default) == ("agents/echo", "echo", "Echo", True)
    assert (row.kind, row.availability) == (Agent.KIND_ECHO, Agent.AVAILABILITY_ONLINE)
    assert row.uid == str(uuid.uuid5(uuid.NAMESPACE_URL, "turnwire:agents/echo"))
    assert row.description
    assert row.context_window == 128_000


def test_settings_say_what_people_see():
    made = registry(helper={"kind": "echo", "display_name": "Helper", "description": "Helps.", "avatar": "https://a/b"})
    row = made.agent("helper")
    assert (row.display_name, row.description, row.avatar, row.default) == ("Helper", "Helps.", "https://a/b", False)
    assert [row.agent_id for row in made.agents()] == ["echo", "helper"]


def test_an_id_of_any_characters_has_a_name():
    assert registry(**{"openai/gpt-4": {"kind": "echo"}}).agent("openai/gpt-4").name == "agents/openai~2Fgpt-4"


def test_an_agent_for_nodes_is_known_and_offline():
    made = registry(worker={"kind": "node", "safe_to_retry": True})
    assert made.get("worker") is None
    row = made.agent("worker")
    assert (row.availability, row.kind, row.retry_safe) == (Agent.AVAILABILITY_OFFLINE, Agent.KIND_NODE, True)
    assert made.facts("worker").retry_safe


def test_a_disabled_agent_is_as_if_it_were_not_there():
    made = registry(other={"kind": "echo", "enabled": False})
    assert (made.get("other"), made.agent("other"), made.facts("other")) == (None, None, None)


def test_an_unknown_agent_is_none():
    assert Registry(Settings()).get("who") is None


def test_the_default_agent_need_not_be_known_here():
    made = Registry(Settings(default_agent="agents/a b"))
    assert made.default == "a b"
    assert not made.agent("echo").default


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(SettingsError) as error:
        registry(
            one={"kind": "python", "entry": "absent_module:answer"},
            two={"kind": "model", "model": "m", "base_url": "http://x", "api_key_env": "ABSENT_KEY"},
        )
    assert len(error.value.problems) == 2
    assert "agents.one.entry" in error.value.problems[0]
    assert "ABSENT_KEY" in error.value.problems[1]


async def test_closing_closes_all():
    made = registry(two={"kind": "model", "model": "m", "base_url": "http://x"})
    await made.close()
