from turnwired.config.explain import MASK, explain
from turnwired.config.sources import load


def rows(**sources):
    return {row.setting: row for row in explain(load(**sources))}


def test_each_setting_has_a_row_with_its_value_source_and_meaning(tmp_path):
    (tmp_path / "turnwire.toml").write_text("[agents.echo]\npace_ms = 3\n", encoding="utf-8")
    shown = rows(directory=tmp_path, env={"TURNWIRE_HTTP": "[::1]:0"}, flags={"open": True})
    assert (shown["http.address"].value, shown["http.address"].source) == ("[::1]:0", "TURNWIRE_HTTP")
    assert (shown["open"].value, shown["open"].source) == ("true", "flag --open")
    assert (shown["agents.echo.pace_ms"].value, shown["agents.echo.pace_ms"].source) == ("3", "turnwire.toml:2")
    assert (shown["turns.turn_wait"].value, shown["turns.turn_wait"].source) == ("86400", "default")
    assert shown["turns.turn_wait"].about == "Seconds that a turn may await input."
    assert shown["upstream"].value == "(unset)"
    assert shown["alumia.cors_origins"].value == "(none)"
    assert shown["dialects"].value == "alumia, cortex, llamacloud, guayaba, hapi"
    assert all(row.about for name, row in shown.items() if not name.endswith(".kind"))


def test_no_row_shows_a_secret():
    env = {
        "TURNWIRE_HAPI__ACCESS_TOKEN": "s3cret",
        "TURNWIRE_DATABASE": "postgresql://ann:s3cret@h/d?password=s3cret",
        "TURNWIRE_AGENTS__MODEL__BASE_URL": "http://ann:s3cret@h/v1?key=s3cret",
        "TURNWIRE_AGENTS__MODEL__MCP": '[{"url": "http://s3cret@h/mcp?k=s3cret"}, {"command": ["tool", "--k=s3cret"]}]',
        "TURNWIRE_TRACING__ENDPOINT": "http://s3cret@h:4317",
        "OPENAI_API_KEY": "s3cret",
    }
    shown = rows(env=env)
    assert "s3cret" not in repr(shown)
    assert shown["hapi.access_token"].value == MASK
    assert shown["database.url"].value == "postgresql://ann@h/d"
    assert shown["agents.model.base_url"].value == f"http://{MASK}@h/v1?{MASK}"
    assert shown["agents.model.mcp"].value == f"http://{MASK}@h/mcp?{MASK}, tool"
    assert shown["agents.model.api_key_env"].value == "OPENAI_API_KEY"


def test_a_found_model_says_which_variable_found_it():
    shown = rows(env={"OPENAI_API_KEY": "k"})
    assert shown["agents.model.kind"].source == "found by OPENAI_API_KEY"
