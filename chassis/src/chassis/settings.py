"""Settings: one frozen, typed object per service, read once at boot.

Four sources; the first that names a variable wins:

1. the environment (`DB_HOST=…`)
2. secret files, one value a file (`$CONFIG_DIR/secrets/db_host`)
3. config files (`$CONFIG_DIR/<anything>-config/*.properties`, lines of `db_host=…`)
4. `$CONFIG_DIR/config.json` (`{"db_host": …}`)

All four use the same flat names. In code a group is an object: `DB_HOST` is `settings.db.host`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
SECRET_WORDS = ("password", "secret", "key", "url", "token")


class SettingsError(Exception):
    """A bad value. The message has one line for each, naming the variable, what it got and what it wants."""


def split_commas(value: object) -> object:
    """`"a, b"` → `["a", "b"]`; anything but a string passes through to pydantic."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]
"""A tuple of strings, written `a,b,c` in every source."""


class Group(BaseModel):
    """A group of settings: `settings.<group>.<name>` is read from `<GROUP>_<NAME>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(Group):
    """PostgreSQL. Times are in milliseconds; the pool is per worker process."""

    host: str = Field("localhost", description="PostgreSQL host")
    port: int = Field(5432, ge=1, le=65535, description="PostgreSQL port")
    name: str = Field("storefront", description="database name")
    user: str = Field("storefront", description="database role")
    password: SecretStr | None = Field(None, description="password of that role")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq sslmode"
    )
    pool_size: int = Field(8, ge=1, le=100, description="connections per worker")
    pool_wait_ms: int = Field(300, ge=1, le=10_000, description="longest wait for a free connection, ms")
    connect_timeout_ms: int = Field(500, ge=10, le=10_000, description="longest wait for a new connection, ms")
    operation_timeout_ms: int = Field(
        800, ge=10, le=60_000, description="longest database operation, pool wait, connect and retries included, ms"
    )


class RedisSettings(Group):
    """Redis or a server that speaks its protocol. Optional everywhere: no URL means no cache."""

    url: SecretStr | None = Field(None, description="redis://[:password@]host:port/db; empty: no cache")
    timeout_ms: int = Field(150, ge=5, le=1000, description="limit of one connect, read or write, ms")
    pool_size: int = Field(8, ge=1, le=100, description="connections per worker")
    breaker_reset_ms: int = Field(1000, ge=50, le=60_000, description="rest after a failure before the next try, ms")


class ServiceSettings(BaseSettings):
    """What every service is configured by. A service subclasses it and adds its own fields."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        hide_input_in_errors=False,
        nested_model_default_partial_update=True,
    )

    app_version: str = Field("1.0.0", description="version that health, logs and metrics report")
    commit: str = Field("unknown", description="source revision that build_info reports")
    flask_env: Literal["production", "development"] = Field(
        "production", description="`development` is the only way to debug mode"
    )
    listen_host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 in a container")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    web_concurrency: int = Field(2, ge=1, le=64, description="worker processes")
    threads: int = Field(8, ge=1, le=256, description="threads per worker")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severe level logged")
    log_format: Literal["json", "text"] = Field("json", description="one JSON object a line, or plain text")
    drain_seconds: float = Field(
        5.0, ge=0, le=300, description="after SIGTERM: how long /health/ready answers 503 while requests are served, s"
    )
    stop_timeout_seconds: int = Field(15, ge=1, le=300, description="then: longest wait for requests in flight, s")
    request_timeout_ms: int = Field(10_000, ge=1, le=600_000, description="deadline of a request, ms")
    max_body_bytes: int = Field(64 * 1024, ge=1, description="largest request body, bytes")
    cors_origins: CommaList = Field((), description="origins allowed by CORS, comma separated; empty: none")
    metrics_dir: Path | None = Field(None, description="directory of the metric files; empty: a temporary one")
    metrics_sample_seconds: float = Field(30.0, gt=0, le=3600, description="refresh of sampled gauges, s")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of the four sources; arguments given in code come before them all."""
        directory = os.environ.get("CONFIG_DIR")
        files = [FileSource(settings_cls, reader(Path(directory))) for reader in FILE_READERS] if directory else []
        return (init_settings, env_settings, *files)


class DatabaseServiceSettings(ServiceSettings):
    """A service that has a database. `DATABASE_URL` stands for all `DB_*` of a connection at once."""

    database_url: SecretStr | None = Field(None, description="postgresql://user:password@host:port/name; beats DB_*")
    db: DatabaseSettings = Field(default_factory=DatabaseSettings)

    @model_validator(mode="before")
    @classmethod
    def _split_database_url(cls, data: Any) -> Any:
        url = data.get("database_url") if isinstance(data, dict) else None
        if not url:
            return data
        text = url.get_secret_value() if isinstance(url, SecretStr) else str(url)
        base = data.get("db", {})
        parts = parse_database_url(text)
        group = base.model_copy(update=parts) if isinstance(base, DatabaseSettings) else {**base, **parts}
        return {**data, "db": group}


def parse_database_url(url: str) -> dict[str, Any]:
    """The `DatabaseSettings` fields that a URL names.

    Raises:
        ValueError: the URL is not `postgresql://…` (the message does not repeat it: it may hold a password).
    """
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres") or not parts.hostname:
        raise ValueError("want postgresql://user:password@host:port/name")
    found: dict[str, Any] = {"host": parts.hostname}
    if parts.port:
        found["port"] = parts.port
    if parts.path.strip("/"):
        found["name"] = unquote(parts.path.strip("/"))
    if parts.username:
        found["user"] = unquote(parts.username)
    if parts.password:
        found["password"] = SecretStr(unquote(parts.password))
    if sslmode := parse_qs(parts.query).get("sslmode"):
        found["sslmode"] = sslmode[0]
    return found


# --- the three file sources ---------------------------------------------------------------------------------------


def read_secrets(directory: Path) -> Iterator[tuple[str, str, str]]:
    """(file, name, value) of every secret file. Hidden entries are Kubernetes' own and are passed over."""
    folder = directory / "secrets"
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                file = f"secrets/{path.name}"
                yield file, path.name, _text_of(path, file).rstrip("\r\n")


def read_properties(directory: Path) -> Iterator[tuple[str, str, str]]:
    """(file, name, value) of every line of every `*-config/*.properties`; `#` and `!` begin a comment."""
    for path in sorted(directory.glob("*-config/*.properties")):
        file = f"{path.parent.name}/{path.name}"
        for line in _text_of(path, file).splitlines():
            name, equals, value = line.partition("=")
            if name.strip() and name.strip()[0] not in "#!":
                if not equals:
                    raise SettingsError(f"{path.name}: got {line!r}, want name=value")
                yield file, name.strip(), value.strip()


def read_json(directory: Path) -> Iterator[tuple[str, str, str]]:
    """(file, name, value) of `config.json`; values that are no strings are written as JSON."""
    path = directory / "config.json"
    if path.is_file():
        try:
            found = json.loads(_text_of(path, "config.json"))
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"config.json: {error}") from error
        if not isinstance(found, dict):
            raise SettingsError(f"config.json: got {type(found).__name__}, want an object of names and values")
        for name, value in found.items():
            yield "config.json", name, value if isinstance(value, str) else json.dumps(value)


def _text_of(path: Path, file: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: got a {type(error).__name__}, want a file of UTF-8 text") from None


FILE_READERS = (read_secrets, read_properties, read_json)


class FileSource(EnvSettingsSource):
    """A source of flat names like the environment, read from files. A name nobody knows is an error."""

    def __init__(self, settings_cls: type[BaseSettings], entries: Iterator[tuple[str, str, str]]) -> None:
        self._entries = entries
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        known = {variable.name for variable in variables(self.settings_cls)}
        found: dict[str, str | None] = {}
        for file, name, value in self._entries:
            if name.upper() not in known:
                raise SettingsError(f"{file}: unknown key {name!r}, want one of {', '.join(sorted(known)).lower()}")
            if _NO_TEXT.search(value):  # of which the first to ask the database would hear
                raise SettingsError(f"{file}: {name.upper()} has a NUL or half a character, want text")
            found[name.lower()] = value
        return found


# --- what there is to set, and errors that say it -----------------------------------------------------------------


@dataclass(frozen=True)
class Variable:
    """One variable: its name in the environment, default as text (None: unset), meaning, and whether it is secret."""

    name: str
    default: str | None
    description: str
    secret: bool


def variables(model: type[BaseModel], prefix: str = "") -> Iterator[Variable]:
    """Every variable that `model` reads, groups flattened, in the order of the fields."""
    for name, field in model.model_fields.items():
        group = _group_of(field)
        if group is not None:
            yield from variables(group, f"{prefix}{name}_".upper())
        else:
            variable = f"{prefix}{name}".upper()
            yield Variable(variable, _default_text(field), field.description or "", _is_secret(field))


def _group_of(field: FieldInfo) -> type[Group] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Group) else None


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def _default_text(field: FieldInfo) -> str | None:
    default = field.get_default(call_default_factory=False)
    if default is None or default is PydanticUndefined:
        return None
    return ",".join(default) if isinstance(default, tuple) else str(default)


S = TypeVar("S", bound=ServiceSettings)


def load(model: type[S], **given: Any) -> S:
    """The settings of a service from all sources; `given` fields (in code, in tests) beat them.

    Raises:
        SettingsError: one line for each bad value.
    """
    try:
        return model(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(map(partial(_explain, model), error.errors()))) from None


def _explain(model: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    name = "_".join(path).upper() or "DATABASE_URL"
    known = {variable.name: variable for variable in variables(model)}
    while name and name not in known and len(path) > 1:  # the tail of a location is pydantic's own (a list's index)
        path.pop()
        name = "_".join(path).upper()
    secret = name not in known or known[name].secret or any(word in name.lower() for word in SECRET_WORDS)
    got = "a value that is not shown" if secret else repr(error["input"])
    wants = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{name}: got {got}, want {wants.removeprefix('want ')}"
