"""chassis.settings: four sources in order, typed values, errors that say what to mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_service.settings import Settings

from chassis.settings import SettingsError, load, variables


@pytest.fixture
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CONFIG_DIR, and none of the variables set."""
    for variable in variables(Settings):
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("CONFIG_DIR", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "db-config").mkdir()
    return tmp_path


def write(config_dir: Path, *, secret: str | None = None, properties: str | None = None, config: object = None) -> None:
    """Put values into the files of a CONFIG_DIR."""
    if secret is not None:
        (config_dir / "secrets" / "db_host").write_text(f"{secret}\n")
    if properties is not None:
        (config_dir / "db-config" / "db-config.properties").write_text(properties)
    if config is not None:
        (config_dir / "config.json").write_text(json.dumps(config))


def test_the_environment_beats_secrets_beat_properties_beat_json(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the four sources, the first that names a variable wins."""
    assert load(Settings).db.host == "localhost"
    write(config_dir, config={"db_host": "from-json"})
    assert load(Settings).db.host == "from-json"
    write(config_dir, properties="# a comment\n\ndb_host=from-properties\n")
    assert load(Settings).db.host == "from-properties"
    write(config_dir, secret="from-secret")
    assert load(Settings).db.host == "from-secret"
    monkeypatch.setenv("DB_HOST", "from-environment")
    assert load(Settings).db.host == "from-environment"


def test_one_group_may_come_from_several_sources(config_dir: Path) -> None:
    """A group is put together value by value: a secret for the host does not hide the port in config.json."""
    write(config_dir, secret="db", properties="db_name=shop", config={"db_port": 6543, "port": 7000})
    settings = load(Settings)
    assert (settings.db.host, settings.db.name, settings.db.port, settings.port) == ("db", "shop", 6543, 7000)


@pytest.mark.parametrize(
    ("variable", "value", "wants"),
    [
        ("PORT", "70000", "less than or equal to 65535"),
        ("PORT", "eighty", "a valid integer"),
        ("DB_POOL_SIZE", "0", "greater than or equal to 1"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("NOTE_LIMIT", "-1", "greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_one_line_that_names_variable_value_and_want(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, wants: str
) -> None:
    """The error names the variable, what it got and what it wants."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert str(caught.value).startswith(f"{variable}: got '{value}', want ")
    assert wants in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_bad_values_are_told_at_once(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bad variables make two lines: nobody wants to mend them one start at a time."""
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("DB_PORT", "y")
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert {line.split(":")[0] for line in str(caught.value).splitlines()} == {"PORT", "DB_PORT"}


def test_no_secret_is_shown_in_an_error(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad URL may hold a password, so the error does not repeat it."""
    monkeypatch.setenv("DATABASE_URL", "mysql://root:hunter2@db/shop")
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert str(caught.value) == (
        "DATABASE_URL: got a value that is not shown, want postgresql://user:password@host:port/name"
    )


@pytest.mark.parametrize("place", ["secret", "properties", "json"])
def test_an_unknown_key_in_a_file_is_an_error(config_dir: Path, place: str) -> None:
    """A misspelt key does not pass in silence; the error names the file and the keys there are."""
    if place == "secret":
        (config_dir / "secrets" / "db_hots").write_text("x")
    elif place == "properties":
        write(config_dir, properties="db_hots=x")
    else:
        write(config_dir, config={"db_hots": "x"})
    with pytest.raises(SettingsError, match=r"unknown key 'db_hots', want one of .*db_host"):
        load(Settings)


def test_a_database_url_stands_for_all_of_a_connection(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL beats DB_* for what it names, and leaves the rest."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:p%40ss@db.example:5433/shop?sslmode=require")
    monkeypatch.setenv("DB_HOST", "elsewhere")
    monkeypatch.setenv("DB_POOL_SIZE", "3")
    db = load(Settings).db
    assert (db.host, db.port, db.name, db.user, db.sslmode, db.pool_size) == (
        "db.example", 5433, "shop", "me", "require", 3,
    )  # fmt: skip
    assert db.password is not None
    assert db.password.get_secret_value() == "p@ss"


def test_settings_do_not_change_and_do_not_print_secrets(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are frozen, and their text has no password in it."""
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    settings = load(Settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    assert "hunter2" not in repr(settings)


def test_no_secret_has_a_default() -> None:
    """Every variable that holds a secret is unset unless somebody sets it."""
    secrets = [variable for variable in variables(Settings) if variable.secret]
    assert {variable.name for variable in secrets} == {"DATABASE_URL", "DB_PASSWORD", "REDIS_URL"}
    assert all(variable.default is None for variable in secrets)


def test_a_comma_list_is_a_tuple(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CORS_ORIGINS=a,b is two origins; unset or empty is none."""
    assert load(Settings).cors_origins == ()
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example")
    assert load(Settings).cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("content", [b"\xff", b"\x80abc"])
def test_a_file_that_is_no_text_is_an_error_of_one_line(config_dir: Path, content: bytes) -> None:
    """Which file it is, and nothing of what is in it."""
    (config_dir / "secrets" / "db_password").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^secrets/db_password: got a \w+, want a file of UTF-8 text$"):
        load(Settings)


@pytest.mark.parametrize("value", ["a\x00b", "\ud800"])
def test_half_characters_and_nul_are_no_value(config_dir: Path, value: str) -> None:
    """JSON can write them; PostgreSQL would be the first to notice."""
    write(config_dir, config={"db_host": value})
    with pytest.raises(SettingsError, match=r"^config\.json: DB_HOST has a NUL or half a character"):
        load(Settings)


def test_a_file_of_brackets_is_an_error_of_one_line(config_dir: Path) -> None:
    """However deep it is."""
    (config_dir / "config.json").write_text("[" * 100_000)
    with pytest.raises(SettingsError, match=r"^config\.json: "):
        load(Settings)
