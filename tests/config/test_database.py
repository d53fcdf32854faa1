import pytest

from turnwired.config.database import ALIVE, DatabaseURL

SECRET = "postgresql://ann:p%40ss@db.example.com:5433/turnwire?sslmode=require&connect_timeout=3"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///turnwire.db", "turnwire.db"),
        ("sqlite:///data/turnwire.db", "data/turnwire.db"),
        ("sqlite:////var/lib/turnwire.db", "/var/lib/turnwire.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("SQLite:///a#b%20c.db", "a#b%20c.db"),
    ],
)
def test_a_sqlite_url_names_a_file_as_it_is_written(url, path):
    parsed = DatabaseURL.parse(url)
    assert (parsed.kind, parsed.path) == ("sqlite", path)
    assert DatabaseURL.parse(str(parsed)) == parsed
    assert parsed.is_memory is (path == ":memory:")


def test_a_postgres_url_is_taken_apart():
    parsed = DatabaseURL.parse(SECRET)
    assert (parsed.kind, parsed.user, parsed.password) == ("postgresql", "ann", "p@ss")
    assert (parsed.host, parsed.port, parsed.name) == ("db.example.com", 5433, "turnwire")
    assert parsed.arguments == {
        **ALIVE,
        "host": "db.example.com",
        "port": 5433,
        "dbname": "turnwire",
        "user": "ann",
        "password": "p@ss",
        "sslmode": "require",
        "connect_timeout": "3",
    }


def test_a_socket_directory_may_be_the_host():
    in_query = DatabaseURL.parse("postgresql:///turnwire?host=/run/pg&user=ann")
    assert in_query.arguments == {**ALIVE, "dbname": "turnwire", "host": "/run/pg", "user": "ann"}
    escaped = DatabaseURL.parse("postgresql://ann@%2Frun%2Fpg/turnwire")
    assert escaped.arguments == {**ALIVE, "dbname": "turnwire", "host": "/run/pg", "user": "ann"}
    assert str(escaped) == "postgresql://ann@%2Frun%2Fpg/turnwire"


def test_what_people_see_of_a_url_has_no_password():
    parsed = DatabaseURL.parse(SECRET)
    assert str(parsed) == "postgresql://ann@db.example.com:5433/turnwire"
    hidden = DatabaseURL.parse("postgresql://h/d?password=p%40ss")
    for shown in (str(parsed), repr(parsed), str(hidden), repr(hidden)):
        assert "p@ss" not in shown
        assert "p%40ss" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "turnwire.db",
        "mysql://ann:p4ss@h/d",
        "sqlite:turnwire.db",
        "sqlite://p4ss.db",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///dir/",
        "sqlite:///a.db?p4ss=1",
        "postgresql://h:port/p4ss",
        "postgresql://h:99999/p4ss",
        "postgresql://[::1/p4ss",
        "postgresql://ann:p4ss#1@h/d",
    ],
)
def test_a_bad_url_is_refused_without_being_repeated(url):
    with pytest.raises(ValueError, match=r"\w") as refused:
        DatabaseURL.parse(url)
    assert "p4ss" not in str(refused.value)
