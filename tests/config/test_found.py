from typing import get_args

import pytest

from turnwired.config.found import _PROVIDERS, found_models
from turnwired.config.sources import load


def model(**env):
    return load(env=env).settings.agents.get("model")


def test_no_variable_means_no_model():
    assert found_models({}) == {}
    assert found_models({"OPENAI_API_KEY": ""}) == {}
    assert model() is None


def test_a_key_is_enough():
    found = model(OPENAI_API_KEY="k")
    assert found.api_key_env == "OPENAI_API_KEY"
    assert found.model.startswith("openai:")
    assert found.base_url == ""


def test_a_base_url_is_enough_and_its_models_are_not_guessed():
    found = model(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert (found.base_url, found.model, found.api_key_env) == ("http://127.0.0.1:9/v1", "", "")


def test_a_named_model_is_taken():
    assert model(OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_MODEL="tiny").model == "tiny"
    assert model(OPENAI_API_KEY="k", OPENAI_MODEL="gpt-x").model == "openai:gpt-x"


def test_settings_beat_what_was_found():
    found = model(OPENAI_API_KEY="k", TURNWIRE_AGENTS__MODEL__MODEL="openai:other", TURNWIRE_AGENTS__MODEL__ENABLED="0")
    assert found.model == "openai:other"
    assert found.api_key_env == "OPENAI_API_KEY"
    assert not found.enabled


def test_the_default_agent_stays_echo_when_a_model_was_found():
    assert load(env={"OPENAI_API_KEY": "k"}).settings.default_agent == "agents/echo"


def test_the_models_chosen_are_known_to_the_library_that_calls_them():
    models = pytest.importorskip("pydantic_ai.models")
    known = str(get_args(models.KnownModelName.__value__))
    for provider in _PROVIDERS:
        assert repr(provider.model) in known
