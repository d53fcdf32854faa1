import pytest
from pydantic import BaseModel, ValidationError

from turnwired.config.agents import KINDS, EchoAgent, ModelAgent
from turnwired.config.settings import Settings
from turnwired.config.values import Section

# design.md, sections 1, 4, 9 and 10; contracts/*.md
DOCUMENTED = {
    "http.address": "127.0.0.1:8080",
    "grpc.address": "127.0.0.1:50051",
    "database.url": "sqlite:///turnwire.db",
    "namespace": "default",
    "default_agent": "agents/echo",
    "agents.echo.pace_ms": 10,
    "agents.echo.stage_directions": True,
    "turns.busy_policy": "REJECT",
    "turns.waiting_policy": "REJECT",
    "turns.duration": 600,
    "turns.output_bytes": 4 * 2**20,
    "turns.queued_per_session": 32,
    "turns.queue_wait": 60,
    "turns.turn_wait": 86_400,
    "log.commit_spacing_ms": 20,
    "log.append_cap_deltas": 16,
    "log.append_cap_bytes": 65_536,
    "log.frame_events": 500,
    "log.frame_bytes": 262_144,
    "log.watch_buffer": 1_024,
    "log.watch_heartbeat": 15,
    "log.compact_after": 900,
    "leases.lease": 8,
    "leases.sweep": 3,
    "limits.grpc_message_bytes": 32 * 2**20,
    "limits.unary_deadline": 30,
    "limits.attachment_bytes": 100 * 2**20,
    "limits.json_depth": 64,
    "nodes.gone_after": 30,
    "alumia.envelope": False,
    "alumia.ping_seconds": 15,
    "alumia.live_idle_seconds": 300,
    "alumia.max_body_bytes": 8_388_608,
    "alumia.projects": None,
    "alumia.agents": None,
    "cortex.max_body_bytes": 4 * 2**20,
    "cortex.max_audio_bytes": 25 * 2**20,
    "cortex.ping_seconds": 15,
    "llamacloud.shared_access": "read_only",
    "llamacloud.allowed_index_ids": None,
    "llamacloud.ping_seconds": 15,
    "guayaba.max_body_bytes": 2**20,
    "hapi.access_token": None,
    "hapi.jwt_seconds": 4 * 3_600,
    "hapi.max_body_bytes": 4 * 2**20,
    "hapi.max_upload_bytes": 52_428_800,
}


def value(settings, path):
    found = settings
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return str(found) if path.endswith(".address") else found


@pytest.mark.parametrize(("path", "default"), DOCUMENTED.items())
def test_a_default_is_the_documented_one(path, default):
    assert value(Settings(), path) == default


@pytest.mark.parametrize("dialect", ["gateway", "alumia", "cortex", "llamacloud", "guayaba", "hapi"])
def test_each_dialect_has_cors_origins_and_none_at_first(dialect):
    assert getattr(Settings(), dialect).cors_origins == []


def sections(model=Settings):
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation)


@pytest.mark.parametrize("model", [*sections(), *KINDS.values()])
def test_each_setting_says_what_it_is(model):
    assert issubclass(model, Section)
    for name, field in model.model_fields.items():
        if name == "kind":
            continue
        assert field.description, f"{model.__name__}.{name}"
        assert field.description.endswith((".", "…")), f"{model.__name__}.{name}"


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().turns.duration = 1


def test_an_agent_beside_echo_leaves_echo_there():
    settings = Settings.model_validate({"agents": {"bot": {"kind": "python", "entry": "bots.one:answer"}}})
    assert sorted(settings.agents) == ["bot", "echo"]
    assert isinstance(settings.agents["echo"], EchoAgent)


def test_an_agent_named_as_a_kind_is_of_that_kind():
    settings = Settings.model_validate({"agents": {"model": {"base_url": "http://127.0.0.1:1/v1"}}})
    assert isinstance(settings.agents["model"], ModelAgent)


def test_a_section_may_be_given_by_its_main_setting_alone():
    settings = Settings.model_validate({"http": "0.0.0.0:80", "database": "sqlite:///:memory:"})
    assert str(settings.http.address) == "0.0.0.0:80"
    assert settings.database.parsed.is_memory


@pytest.mark.parametrize(
    "values",
    [
        {"turns": {"duration": 0}},
        {"turns": {"busy_policy": "STEAL"}},
        {"log": {"compact_after": 899}},
        {"log": {"poll": 3}},
        {"log": {"watch_heartbeat": float("inf")}},
        {"leases": {"lease": 3, "sweep": 3}},
        {"nodes": {"heartbeat": 30}},
        {"default_agent": "agents/"},
        {"default_agent": "bot", "agents": {"bot": {"kind": "node", "enabled": False}}},
        {"agents": {"": {"kind": "node"}}},
        {"agents": {"bot": {"kind": "python", "entry": "no colon"}}},
        {"agents": {"bot": {"kind": "python"}}},
        {"agents": {"bot": {"kind": "model", "mcp": [{"url": "http://h", "command": ["x"]}]}}},
        {"agents": {"bot": {"kind": "model", "mcp": [{}]}}},
        {"agents": {"bot": {"kind": "model", "api_key_env": "sk-abc"}}},
        {"dialects": ["aluminia"]},
        {"hapi": {"access_token": ""}},
        {"llamacloud": {"max_body_bytes": 1}},
        {"cortex": {"cors_origins": ["http://h/path"]}},
        {"unknown": 1},
    ],
)
def test_a_value_out_of_its_limits_is_refused(values):
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


def test_the_default_agent_may_be_named_short():
    assert Settings(default_agent="bot").default_agent == "agents/bot"
