"""Secrets of a whole storefront that logs all it can and loses its stores: looked for wherever somebody could read."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import psycopg2.extensions
import pytest
import redis

from chassis.servers import PostgresServer, ValkeyServer
from chassis.settings import load
from chassis.testing import wait_until
from chassis.testing.databases import query
from chassis.testing.wire import Message
from gateway import cli
from gateway.registry.keys import digest
from gateway.settings import Settings
from tests.hostile.operations import Sender
from tests.hostile.stage import SERVICES, Stage, running
from tests.promises import Promise

pytestmark = pytest.mark.hostile

PEOPLE = ("ada-the-secret", "grace+secret", "secret.ü", "secret'o", "lost-secret", "renamed-secret")
"""Local parts of e-mail addresses that are sent: none may be in a log."""
DOMAIN = "hidden.example"
IDEMPOTENCY_KEY = "idempotency-key-of-ada-alone"
UNKNOWN = "sf_a-key-that-there-never-was-and-that-is-somebody-elses"
PASSWORD = "password-that-was-typed-into-the-wrong-field"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def spellings(secret: str) -> set[bytes]:
    """How a secret may be written."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote_plus(secret).encode(), raw.hex().encode()}
    found |= {base64.b64encode(b"x" * shift + raw)[4 * (shift > 0) : -4] for shift in range(3)}
    found.add(secret.encode("unicode_escape").replace(b"\\x", b"\\u00"))
    return {each for each in found if len(each) > 5}


class Search:
    """Looks for secrets, and counts where it has looked.

    Args:
        secrets: what is looked for, by what it is.
    """

    def __init__(self, secrets: dict[str, Iterable[str]]) -> None:
        self._spellings = {
            kind: [(secret, each) for secret in texts for each in spellings(secret)] for kind, texts in secrets.items()
        }
        self.bytes = 0
        self.found: list[str] = []

    def look(self, where: str, text: bytes | str, *, but: Iterable[str] = ()) -> None:
        """Look into `text`; `but` are kinds that may be there."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self.bytes += len(data)
        for kind, spelled in self._spellings.items():
            if kind not in but:
                self.found += [f"{where}: {kind}: {secret}" for secret, each in spelled if each in data]


class Recorder:
    """Sends requests, and keeps the answers."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.kept: list[tuple[str, Message]] = []

    def send(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None, *,
        key: str | None = None, service: str = "gateway",
    ) -> Message:  # fmt: skip
        """One request on a connection of its own, so that either worker may get it."""
        with Sender(self._stage, service, key=key) as sender:
            message = sender.send(method, target, body, headers).message
        self.kept.append((f"{service}: {method} {target}", message))
        return message


def test_no_secret_is_anywhere(
    tmp_path: Path, private_postgres: PostgresServer, private_redis: ValkeyServer, promise: Promise
) -> None:
    """Passwords, keys, addresses: not in logs at DEBUG from the start to the end, stores lost on the way included; not
    in metrics, errors, pages, documents, health, command lines, files, Redis or, but for digests, PostgreSQL.
    """
    directory = tmp_path / "stage"
    directory.mkdir()
    with running(directory, private_postgres, private_redis, log_level="DEBUG") as stage:
        made, recorder = _make_a_key(stage), Recorder(stage)
        search = Search({
            "database password": [private_postgres.password],
            "Redis password": [private_redis.password],
            "API key": [*stage.keys.values(), made, UNKNOWN],
            "e-mail address": PEOPLE,
            "what else was sent": [IDEMPOTENCY_KEY, PASSWORD],
        })  # fmt: skip
        _live(recorder, made)
        _look_at_stores(search, stage)
        _look_at_pages(search, stage, recorder)
        _look_at_processes(search, stage)
        _lose_the_stores(recorder, private_postgres, private_redis)
        processes = dict(stage.processes)
        _look_at_pages(search, stage, recorder)
        _look_at_answers(search, recorder)
        files = _look_at_files(search, directory, but=("admin-key",))
    logs = {name: "\n".join(process.lines) for name, process in processes.items()}
    for name, text in logs.items():
        search.look(f"log of {name}", text)
        assert '"DEBUG"' in text, f"{name} does not log at DEBUG"
    for server in (private_postgres, private_redis):
        for log in server.directory.glob("server.log*"):
            search.look(f"log of {server.name}", log.read_bytes())
    assert not search.found, "\n".join(sorted(set(search.found))[:40])
    lines = sum(text.count("\n") for text in logs.values())
    promise("secrets", "none in logs at DEBUG, metrics, errors, pages, files, command lines, stores",
            f"{len(recorder.kept)} answers, {lines} lines, {files} files, {search.bytes / 1e6:.1f} MB: 0 found",
            holds=len(recorder.kept) > 60 and lines > 200 and files > 4)  # fmt: skip


def test_the_search_finds_what_there_is() -> None:
    """In each of its spellings, in the middle of something else, and nothing where there is nothing."""
    for secret in ("somebody@example", "a secret/word", "secräts-of-somebody", "sf_key-of-somebody"):
        encoded = [base64.b64encode(b"z" * shift + secret.encode() + b"zzz").decode() for shift in range(3)]
        for text in (f"<{secret}>", quote(secret, safe=""), quote_plus(secret), secret.encode().hex(), *encoded):
            search = Search({"a": [secret]})
            search.look("here", f"x{text}x")
            assert search.found, (secret, text)
        search = Search({"a": [secret]})
        search.look("here", secret[:-1] + secret[1:])
        assert search.found == []


def _make_a_key(stage: Stage) -> str:
    """One that the command line tool makes, as an operator would."""
    settings = load(Settings, database_url=stage.databases["gateway"], redis={"url": stage.redis_url})
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout.write", written.append, raising=False)
        said = cli.create(settings, name="made", scopes=["users:read", "users:write", "links:write"], limit=None)
    psycopg2.extensions.set_wait_callback(None)
    text = "".join(written).strip()
    assert text not in said
    stage.keys["made"] = text
    return text


def _live(recorder: Recorder, made: str) -> None:
    """Sign-ups, look-ups, mistakes: everything in which somebody might say something in confidence."""
    wait_until(lambda: recorder.send("GET", "/api/v1/users", key="made").status == 200, what="the key counts")
    bearer = {"Authorization": f"Bearer {made}"}
    for number, person in enumerate(PEOPLE):
        address = f"{person}@{DOMAIN}"
        body = f'{{"username":"person-{number}","email":"{address}","full_name":"{PASSWORD}"}}'.encode()
        once = {**JSON, "Idempotency-Key": IDEMPOTENCY_KEY} if number == 0 else JSON
        for service in ("gateway", "gateway", "user"):
            recorder.send("POST", "/api/v1/users", body, once, service=service)
        for text in (address, quote(address), quote(quote(address, safe=""), safe="")):
            path = quote(text, safe="%@+'")
            for target in (f"/api/v1/users?email={path}", f"/api/v1/users/{path}", f"/{path}", f"/s/{path}",
                           f"/t/storefront/user/{path}", f"/api/products?q={path}"):  # fmt: skip
                recorder.send("GET", target, headers=bearer)
            recorder.send("GET", f"/api/v1/users/{path}", service="user")
        recorder.send("PATCH", "/api/v1/users/1", f'{{"email":"{address}"}}'.encode(), JSON, key="made")
        recorder.send("PATCH", "/api/v1/users/1", f'{{"email":"{address}","{PASSWORD}":1}}'.encode(), JSON, key="made")
    for key in (made, UNKNOWN):
        for fields in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"Basic {key}"}):
            recorder.send("GET", "/api/v1/routes", headers=fields)
            recorder.send("GET", f"/api/v1/users?api_key={key}", headers=fields)
            recorder.send("POST", "/api/v1/links", b'{"url":"nonsense"}', {**JSON, **fields})
        recorder.send("GET", f"/api/v1/users?access_token={key}")
        recorder.send("POST", "/links", f"url=https://example.com/&key={key}".encode(), FORM)
        recorder.send("POST", "/links", f"url=nonsense&key={key}".encode(), FORM)
        recorder.send("POST", "/links", f"url=https://example.com/&key={key}".encode(), FORM, service="links")
    recorder.send("POST", "/api/v1/links", f'{{"url":"https://u:{PASSWORD}@example.com/"}}'.encode(), JSON, key="made")
    recorder.send("POST", "/api/v1/routes", f'{{"url":"http://u:{PASSWORD}@127.0.0.1/"}}'.encode(), JSON, key="router")
    recorder.send("GET", "/%00", headers={"Cookie": f"session={PASSWORD}"})
    recorder.send("GET", "/", headers={"Referer": f"https://{DOMAIN}/?password={PASSWORD}", "User-Agent": PASSWORD})


def _lose_the_stores(recorder: Recorder, postgres: PostgresServer, valkey: ValkeyServer) -> None:
    """What is said when nothing can be reached, and when it can be again."""
    valkey.kill()
    postgres.kill()
    for number, person in enumerate(PEOPLE):
        body = f'{{"username":"late-{number}","email":"late-{person}@{DOMAIN}"}}'.encode()
        for service in ("gateway", "user"):
            recorder.send("POST", "/api/v1/users", body, {**JSON, "Idempotency-Key": IDEMPOTENCY_KEY}, service=service)
        recorder.send("GET", f"/api/v1/users?email={quote(person)}@{DOMAIN}", key="made")
    for service in SERVICES:
        for path in ("/health", "/health/ready"):
            recorder.send("GET", path, service=service)
    recorder.send("POST", "/api/v1/links", b'{"url":"https://example.com/"}', JSON, key="made")
    recorder.send("GET", "/api/v1/routes", key="router")
    assert any(message.status == 503 for _, message in recorder.kept)
    postgres.start()
    valkey.start()
    wait_until(lambda: recorder.send("GET", "/health", service="user").status == 200, timeout_s=20)


def _look_at_answers(search: Search, recorder: Recorder) -> None:
    """Errors and heads; the addresses of users are what users are answered with."""
    for what, message in recorder.kept:
        is_error = message.status >= 400 and "/links" not in what
        but = () if is_error else ("e-mail address", "what else was sent")
        echoed = (
            ("what else was sent",)
            if PASSWORD.encode() in message.body and b"is not a known field" in message.body
            else ()
        )
        search.look(f"answer to {what}", message.raw_head + message.body, but=(*but, *echoed))


def _look_at_pages(search: Search, stage: Stage, recorder: Recorder) -> None:
    for service in SERVICES:
        paths = ["/metrics", "/health", "/health/ready", "/health/live", "/openapi.json", "/docs", "/"]
        paths += ["/links", "/status", "/api/service-status", "/gateway/openapi.json"]
        for path in paths:
            message = recorder.send("GET", path, service=service)
            search.look(f"{service}: {path}", message.raw_head + message.body)
    assert stage.exposition("user")


def _look_at_processes(search: Search, stage: Stage) -> None:
    """What `ps` shows to everybody: services, and the stores that this process has started."""
    mine = psutil.Process().children(recursive=True)
    shown = {process.pid: " ".join(process.cmdline()) for process in mine if process.is_running()}
    assert {process.pid for service in SERVICES for process in stage.family(service)} <= set(shown)
    for pid, command in shown.items():
        search.look(f"command line of {pid}", command)
        assert stat.S_IMODE(Path(f"/proc/{pid}/environ").stat().st_mode) & 0o077 == 0


def _look_at_stores(search: Search, stage: Stage) -> None:
    """PostgreSQL has digests of keys, and no password; Redis neither, and people only on pages of them."""
    people = ("e-mail address", "what else was sent")
    for service, url in stage.databases.items():
        for (table,) in query(url, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"):
            for row in query(url, f"SELECT t::text FROM {table} t"):
                search.look(f"{service}.{table}", row[0], but=people)
    (held,) = query(stage.databases["gateway"], "SELECT digest FROM api_keys WHERE name = 'made'")
    assert bytes(held[0]) == digest(stage.keys["made"])
    with closing(redis.Redis.from_url(stage.redis_url)) as client:
        for key in client.scan_iter():
            value = _value(client, key)
            search.look(f"Redis {key!r}", key + repr(value).encode(), but=people if b"users" in key else ())


def _value(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    reader = {b"string": client.get, b"hash": client.hgetall, b"stream": client.xrange}.get(kind)
    if reader is not None:
        return reader(key)
    return client.zrange(key, 0, -1) if kind == b"zset" else client.lrange(key, 0, -1) if kind == b"list" else kind


def _look_at_files(search: Search, directory: Path, *, but: Iterable[str]) -> int:
    files: Iterator[Path] = (path for path in directory.rglob("*") if path.is_file() and path.name not in but)
    count = 0
    for count, path in enumerate(files, 1):  # noqa: B007
        search.look(f"file {path.relative_to(directory)}", path.read_bytes())
    return count
