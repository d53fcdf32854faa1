import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwired.config.problems import SettingsError
from turnwired.config.sources import load


def written(directory, text, name="turnwire.toml"):
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return file


def refused(**sources):
    with pytest.raises(SettingsError) as error:
        load(**sources)
    return list(error.value.problems)


def test_nothing_given_means_the_defaults(tmp_path):
    loaded = load(directory=tmp_path)
    assert loaded.settings == type(loaded.settings)()
    assert loaded.file is None
    assert loaded.origin(("http", "address")) == "default"


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path):
    written(tmp_path, 'http = "1.1.1.1:1"\ngrpc = "1.1.1.1:1"\n[turns]\nduration = 1\n')
    loaded = load({"http": "3.3.3.3:3"}, {"TURNWIRE_HTTP": "2.2.2.2:2", "TURNWIRE_GRPC": "2.2.2.2:2"}, tmp_path)
    assert str(loaded.settings.http.address) == "3.3.3.3:3"
    assert str(loaded.settings.grpc.address) == "2.2.2.2:2"
    assert loaded.settings.turns.duration == 1
    assert loaded.origin(("http", "address")) == "flag --http"
    assert loaded.origin(("grpc", "address")) == "TURNWIRE_GRPC"
    assert loaded.origin(("turns", "duration")) == "turnwire.toml:4"


def test_a_flag_that_was_not_given_counts_for_nothing():
    loaded = load({"http": None, "open": None}, {"TURNWIRE_OPEN": "yes"})
    assert loaded.settings.open
    assert loaded.origin(("open",)) == "TURNWIRE_OPEN"


def test_documented_variables_are_read():
    env = {
        "TURNWIRE_AGENTS__ECHO__PACE_MS": "0",
        "TURNWIRE_ALUMIA__PING_SECONDS": "1",
        "TURNWIRE_DATABASE": "sqlite:///other.db",
        "TURNWIRE_HAPI__ACCESS_TOKEN": "s3cret",
        "TURNWIRE_TURNS__QUEUE_WAIT": "5m",
        "TURNWIRE_LIMITS__BODY_BYTES": "1MiB",
        "TURNWIRE_DIALECTS": "alumia, hapi",
        "TURNWIRE_LLAMACLOUD__ALLOWED_INDEX_IDS": '["a,b", "c"]',
        "TURNWIRE_UPSTREAM": "10.0.0.1:50051",
        "TURNWIRE_LOGGING__ACCESS": "false",
        "PATH": "/bin",
    }
    settings = load(env=env).settings
    assert settings.agents["echo"].pace_ms == 0
    assert settings.alumia.ping_seconds == 1
    assert settings.database.url == "sqlite:///other.db"
    assert settings.hapi.access_token.get_secret_value() == "s3cret"
    assert settings.turns.queue_wait == 300
    assert settings.limits.body_bytes == 1_048_576
    assert settings.dialects == ["alumia", "hapi"]
    assert settings.llamacloud.allowed_index_ids == ["a,b", "c"]
    assert str(settings.upstream) == "10.0.0.1:50051"
    assert not settings.logging.access


def test_an_empty_variable_counts_as_not_set():
    loaded = load(env={"TURNWIRE_HTTP": "", "TURNWIRE_CONFIG": ""})
    assert loaded.origin(("http", "address")) == "default"


def test_both_forms_of_a_section_are_the_same_setting(tmp_path):
    written(tmp_path, '[http]\naddress = "1.1.1.1:1"\nkeep_alive = 9\n')
    http = load(env={"TURNWIRE_HTTP": "2.2.2.2:2"}, directory=tmp_path).settings.http
    assert (str(http.address), http.keep_alive) == ("2.2.2.2:2", 9)


def test_both_forms_in_one_source_are_refused():
    env = {"TURNWIRE_HTTP": "2.2.2.2:2", "TURNWIRE_HTTP__ADDRESS": "3.3.3.3:3"}
    assert refused(env=env) == ["http.address (TURNWIRE_HTTP__ADDRESS): given by TURNWIRE_HTTP, too"]


def test_a_variable_finds_an_agent_whose_name_no_variable_could_have(tmp_path):
    written(tmp_path, '[agents."My-Bot"]\nkind = "echo"\n')
    loaded = load(env={"TURNWIRE_AGENTS__MY_BOT__PACE_MS": "7"}, directory=tmp_path)
    assert loaded.settings.agents["My-Bot"].pace_ms == 7
    assert "my_bot" not in loaded.settings.agents


def test_an_agent_may_be_made_by_variables_alone():
    env = {"TURNWIRE_AGENTS__BOT__KIND": "python", "TURNWIRE_AGENTS__BOT__ENTRY": "bots.one:answer"}
    assert load(env=env).settings.agents["bot"].entry == "bots.one:answer"
    env = {"TURNWIRE_AGENTS__BOT": '{"kind": "python", "entry": "bots.one:answer"}'}
    assert load(env=env).settings.agents["bot"].entry == "bots.one:answer"


def test_a_named_file_is_read_instead_of_the_usual_one(tmp_path):
    written(tmp_path, "open = false\n")
    other = written(tmp_path, "open = true\n", "other.toml")
    assert load(directory=tmp_path, config=other).settings.open
    loaded = load(directory=tmp_path, env={"TURNWIRE_CONFIG": str(other)})
    assert loaded.settings.open
    assert loaded.file == other


def test_a_named_file_must_be_there(tmp_path):
    gone = tmp_path / "gone.toml"
    assert refused(config=gone) == [f"{gone}: no such file"]


@pytest.mark.parametrize("data", [b"open = \n", b'open = "\xff"\n', b"open = true\nopen = false\n", b"[turns\n"])
def test_a_file_that_is_no_toml_is_one_line(tmp_path, data):
    file = tmp_path / "turnwire.toml"
    file.write_bytes(data)
    (line,) = refused(directory=tmp_path)
    assert line.startswith(f"{file}: ")


def test_each_problem_names_the_setting_and_its_source(tmp_path):
    written(
        tmp_path,
        '[turns]\nqueue_wiat = 3\nduration = -1\n\n[agents.echo]\npace = 3\n\n[agents.bot]\nentry = "a:b"\n'
        '[alumia]\nqueue_wait = 3\nprojects = [{id = "p"}]\n',
    )
    env = {"TURNWIRE_HTP": "h:1", "TURNWIRE_GRPC": "here", "TURNWIRE_QUEUE_WAIT": "3", "TURNWIRE_LOG": "x"}
    assert set(refused(directory=tmp_path, env=env, flags={"leases.sweep": "9"})) == {
        "turns.queue_wiat (turnwire.toml:2): no such setting; did you mean turns.queue_wait?",
        "turns.duration (turnwire.toml:3): input should be greater than 0; got -1",
        "agents.echo.pace (turnwire.toml:6): no such setting; did you mean agents.echo.pace_ms?",
        "agents.bot.kind (turnwire.toml:9): must be one of echo, python, model, node",
        "alumia.queue_wait (turnwire.toml:11): no such setting; did you mean turns.queue_wait?",
        "alumia.projects[0].name (turnwire.toml:12): must be set",
        "htp (TURNWIRE_HTP): no such setting; did you mean http?",
        "grpc.address (TURNWIRE_GRPC): expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080; got 'here'",
        "queue_wait (TURNWIRE_QUEUE_WAIT): no such setting; did you mean turns.queue_wait?",
        "log (TURNWIRE_LOG): holds settings; set one of them",
        "leases (flag --leases-sweep): sweep must be shorter than lease",
    }


def test_settings_that_do_not_fit_together_are_named():
    env = {"TURNWIRE_LEASES__LEASE": "4"}
    assert refused(env=env) == ["log.poll: must be at most a third of leases.lease"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TURNWIRE_HAPI__ACCESS_TOKENS", "s3cret"),
        ("TURNWIRE_DATABASE", "postgres//u:s3cret@h/d"),
        ("TURNWIRE_DATABASE", "postgresql://u:s3cret@h:none/d"),
        ("TURNWIRE_AGENTS__MODEL__API_KEY_ENV", "sk-s3cret"),
        ("TURNWIRE_AGENTS__MODEL__MCP", '[{"url": "http://h", "headers_env": {"authorization": "s3cret"}}]'),
    ],
)
def test_no_problem_shows_a_secret(name, value):
    problems = refused(env={name: value})
    assert problems
    assert "s3cret" not in "\n".join(problems)


def test_bad_json_in_a_variable_is_one_line():
    env = {"TURNWIRE_DIALECTS": "[alumia", "TURNWIRE_TURNS": '{"duration": '}
    assert set(refused(env=env)) == {
        "dialects (TURNWIRE_DIALECTS): cannot be read as JSON",
        "turns (TURNWIRE_TURNS): cannot be read as JSON",
    }


def test_variables_that_a_cluster_sets_for_a_service_called_turnwire_are_no_settings():
    env = {
        "TURNWIRE_SERVICE_HOST": "10.0.0.1",
        "TURNWIRE_SERVICE_PORT": "8080",
        "TURNWIRE_SERVICE_PORT_HTTP": "8080",
        "TURNWIRE_PORT": "tcp://10.0.0.1:8080",
        "TURNWIRE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "TURNWIRE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TURNWIRE_GRPC_PORT": "tcp://10.0.0.1:50051",
    }
    assert load(env=env).origins == {}
    assert refused(env={"TURNWIRE_PORT": "8080"})


def test_variables_for_commands_are_no_settings(tmp_path):
    assert load(env={"TURNWIRE_KEY": "tw_1", "TURNWIRE_SERVER": "h:1"}).origins == {}


names = st.text("ABCXYZ_019", min_size=1, max_size=24)


@given(st.dictionaries(names.map("TURNWIRE_{}".format), st.text(st.characters(exclude_characters="\0"), max_size=12)))
def test_any_variables_give_settings_or_lines(env):
    try:
        load(env=env)
    except SettingsError as error:
        assert all(line and "\n" not in line for line in error.problems)  # noqa: PT017 (either outcome is right)
