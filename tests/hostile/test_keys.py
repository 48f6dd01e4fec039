"""API keys through the whole storefront: what opens without one, or with another, and how soon a lost one is worthless.

How a key is compared: the gateway looks up SHA-256 of what was sent, and compares that with `hmac.compare_digest`. How
long a look-up takes can tell of the digest at most; to send another one, a guesser would have to know a text that has
it, which is what SHA-256 is for. The key's own text is compared with nothing.
"""

from __future__ import annotations

import base64
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import psycopg2.extensions
import pytest

from chassis.settings import load
from chassis.testing import wait_until
from chassis.testing.wire import Client
from gateway import cli
from gateway.db import registry_of
from gateway.registry.keys import SCOPES, ApiKey, Keyring, digest, generate
from gateway.registry.repository import Registry
from gateway.settings import Settings
from tests.hostile.operations import OPERATORS, Operation, Sender, Shop, required_query
from tests.hostile.stage import Stage
from tests.promises import Promise

pytestmark = pytest.mark.hostile

ADMIN, OPEN = "admin", None
NEEDED: tuple[tuple[str, str | None], ...] = (
    (r"catalogue GET /.*", OPEN),
    (r"user POST /api/v1/users", OPEN),
    (r"user GET /api/v1/users.*", "users:read"),
    (r"user (PATCH|PUT|DELETE) /api/v1/users/.*", "users:write"),
    (r"links GET /(s|qr)/.*", OPEN),
    (r"links \w+ /api/v1/links.*", "links:write"),
    (r"gateway GET /api/v1/routes.*", "routes:read"),
    (r"gateway (POST|PATCH|DELETE) /api/v1/routes.*", "routes:write"),
    (r"gateway GET /(api/service-status|health.*|metrics|status)", OPEN),
)
"""What CONTRACT section 5 says, operation by operation; the first that fits counts. Of a service's health and metrics,
which are behind no path of their own, all is the admin's."""

REVOKED_S = 1.0
SLACK_S = 1.0
"""For a machine that is busy with tests."""

CLOSED = "/api/v1/users?per_page=1"


@contextmanager
def registry_at(stage: Stage) -> Iterator[tuple[Settings, Registry]]:
    """The stage's registry, as the command line tool has it."""
    settings = load(Settings, database_url=stage.databases["gateway"], redis={"url": stage.redis_url})
    try:
        with registry_of(settings) as registry:
            yield settings, registry
    finally:
        psycopg2.extensions.set_wait_callback(None)


def add(stage: Stage, name: str, *scopes: str) -> str:
    """Make a key, as `gateway keys create` does; returns its text."""
    text = generate()
    with registry_at(stage) as (settings, registry):
        cli.tell(settings, registry, registry.add_key(name=name, digest=digest(text), scopes=scopes, limit=None))
    return text


def on_every_worker(stage: Stage, stack: ExitStack) -> list[Client]:
    """Kept connections to each worker of the gateway: the others are stopped while they are made."""
    clients = []
    workers = [psutil.Process(pid) for pid in stage.gateway.workers]
    for worker in workers:
        others = [other for other in workers if other != worker]
        for other in others:
            other.suspend()
        try:
            for _ in range(4):
                client = stack.enter_context(Client(stage.port("gateway")))
                assert client.ask("GET", "/health/live").status == 200
                clients.append(client)
        finally:
            for other in others:
                other.resume()
    return clients


@pytest.fixture(scope="module")
def keys(stage: Stage) -> Mapping[str, str]:
    """By name: a key for each scope alone, one for all but that and `admin`, one that was revoked, and one that there
    is not.
    """
    made = {scope: add(stage, f"only-{scope.replace(':', '-')}", scope) for scope in SCOPES}
    for scope in SCOPES[:-1]:
        others = [other for other in SCOPES[:-1] if other != scope]
        made[f"all but {scope}"] = add(stage, f"not-{scope.replace(':', '-')}", *others)
    made["revoked"] = add(stage, "revoked", ADMIN)
    with registry_at(stage) as (settings, _):
        cli.revoke(settings, name="revoked")
    made["unknown"] = generate()
    known = [text for name, text in made.items() if name not in ("revoked", "unknown")]
    with ExitStack() as stack:
        clients = on_every_worker(stage, stack)

        def settled() -> bool:
            answers = [client.ask("GET", CLOSED, {"X-API-Key": text}).status for client in clients for text in known]
            return 401 not in answers and clients[0].ask("GET", CLOSED, {"X-API-Key": made["revoked"]}).status == 401

        wait_until(settled, timeout_s=10, what="every worker knows the keys")
    return made


def needed_of(operation: Operation) -> str | None:
    """What a key needs. Fails for an operation that nobody has thought of."""
    found = [scope for pattern, scope in NEEDED if re.fullmatch(pattern, str(operation))]
    assert found, f"{operation}: say in NEEDED who may do that"
    return found[0]


def _paths(shop: Shop, operation: Operation) -> list[tuple[str, str | None]]:
    """Every way to an operation through the gateway, and what it needs there. About things that there are not, so that
    nothing is changed by who may.
    """
    slots = dict.fromkeys(operation.slots, "999999999")
    path = shop.target(operation, required_query(operation).items(), **slots)
    below = f"/t/storefront/{operation.service}{path}"
    if operation.service == "gateway":
        return [(path, needed_of(operation))]
    if operation.tag == OPERATORS:
        return [(below, ADMIN)]
    found = [(path, needed_of(operation)), (below, needed_of(operation))]
    if path.startswith("/api/"):
        found.append((f"/{operation.service}{path}", needed_of(operation)))
        found.append((path.replace("/api/", "/%61pi/", 1), needed_of(operation)))
    return found


def test_no_scope_is_worth_another_at_any_operation(shop: Shop, keys: Mapping[str, str], promise: Promise) -> None:
    """Every operation of every document, by every path that leads there, with every scope alone, with all but the one
    that it needs, without a key, and with one that is worth nothing. What clients say of themselves does not count.
    """
    forged = {"X-Caller": "admin", "X-Caller-Scopes": "admin", "X-HTTP-Method-Override": "GET", "X-Original-URL": "/"}
    wrong, counted = [], Counter[str]()
    for operation in shop.operations:
        if operation.service == "gateway" and operation.scope is not None:
            assert operation.scope == needed_of(operation), f"{operation}: the document says otherwise"
        body = b"" if operation.method in ("GET", "DELETE") else b"[]"
        for path, needed in _paths(shop, operation):
            for name, text in {**keys, "none": ""}.items():
                headers = {**forged, **({"X-API-Key": text} if text else {}), "Content-Type": "application/json"}
                status = shop.stranger.send(operation.method, path, body, headers).message.status
                if status == 429 and path.startswith(("/qr/", "/t/storefront/links/qr/")):
                    continue  # the stage has a limit there, for other tests
                wanted = _wanted(name, needed)
                said = {401: "401", 403: "403"}.get(status, "let through")
                counted[said] += 1
                if said != wanted or status >= 500:
                    wrong.append(f"{operation.method} {path} with {name}: {status}, want {wanted}")
    assert not wrong, "\n".join(wrong[:30])
    promise("keys: every operation × every scope", "a key does what its scopes say and nothing else",
            f"{len(shop.operations)} operations, {counted.total()} requests: {dict(counted)}; 0 otherwise",
            holds=min(counted["401"], counted["403"], counted["let through"]) > 50)  # fmt: skip


def _wanted(name: str, needed: str | None) -> str:
    if needed is None:
        return "let through"
    if name in ("none", "revoked", "unknown"):
        return "401"
    has = {ADMIN} if name == ADMIN else set(SCOPES[:-1]) - {name[8:]} if name.startswith("all but ") else {name}
    return "let through" if needed in has or ADMIN in has else "403"


def test_keys_that_are_none(stage: Stage, keys: Mapping[str, str], promise: Promise) -> None:
    """Whatever is almost a key, in whichever place: 401, or 400 where two parsers could read two keys."""
    key, other = keys["users:read"], keys["links:write"]
    basic = base64.b64encode(f"{key}:".encode()).decode()
    latin = key.replace("s", "\xe9", 1)
    almost = [
        "", " ", "null", "undefined", "0", "*", "%", "' OR '1'='1", "sf_", "sf_" + "a" * 43, key[:-1], key + "a",
        key[1:], key.swapcase(), key.upper(), key.lower(), key.replace("_", "-"), key.replace("sf_", "SF_"), f"{key},",
        f"{key};", f'"{key}"', f"{key} {key}", f"{key}\t{other}", f"{key},{key}", digest(key).hex(), latin, key * 6,
        "a" * 256, "a" * 257, "a" * 8000, "\xff\xfe", "\xc3\xa9", key[:10] + "%" + key[11:], f"Bearer {key}x",
    ]  # fmt: skip
    tries: list[tuple[str, dict[str, str]]] = []
    for text in almost:
        tries += [(CLOSED, {"X-API-Key": text}), (CLOSED, {"Authorization": f"Bearer {text}"})]
    tries += [
        (CLOSED, {"Authorization": value})
        for value in (
            key,
            f"Basic {basic}",
            f"Token {key}",
            f"Bearer{key}",
            f"Bearer={key}",
            f"Digest {key}",
            f"Bearer,{key}",
        )
    ]
    tries += [
        (f"{CLOSED}&{name}={key}", {}) for name in ("key", "api_key", "apikey", "access_token", "X-API-Key", "token")
    ]
    tries += [
        (CLOSED, fields)
        for fields in (
            {"Cookie": f"key={key}; X-API-Key={key}; access_token={key}"},
            {"X-Api_Key": key}, {"X_API_KEY": key}, {"XAPIKEY": key}, {"Proxy-Authorization": f"Bearer {key}"},
            {"X-Authorization": f"Bearer {key}"}, {"X-Forwarded-Authorization": f"Bearer {key}"},
            {"X-API-Key": key, "Authorization": f"Bearer {other}"}, {"X-API-Key": "", "Authorization": f"Bearer {key}"},
            {"X-API-Key": other, "Authorization": f"Bearer {key}"},
            {"X-API-Key": key, "x-api-key": key}, {"X-API-Key": key, "x-api-KEY": other},
            {"Authorization": f"Bearer {key}", "authorization": f"Bearer {key}"},
            {"Authorization": f"Basic {basic}", "authorization": f"Bearer {key}"},
        )
    ]  # fmt: skip
    watch = stage.watch()
    with Sender(stage, "gateway", key=None) as stranger:
        found = [(target, headers, stranger.send("GET", target, headers=headers).message) for target, headers in tries]
        for headers in ({"X-API-Key": key}, {"X-API-Key": f"  {key}\t"}, {"Authorization": f"bEARER   {key}"},
                        {"X-API-Key": key, "Authorization": f"Bearer {key}"}):  # fmt: skip
            assert stranger.send("GET", CLOSED, headers=headers).message.status == 200
    counted = Counter(message.status for _, _, message in found)
    odd = [(target, headers, message.status) for target, headers, message in found if message.status not in (400, 401)]
    assert odd == []
    for _, _, message in found:
        assert (
            message.status == 400
            or message.get(
                "www-authenticate",
            )
            is not None
        )
        assert key not in message.body.decode() + str(message.headers)
    stage.settle()
    assert watch.holding((key, other)) == []
    promise("keys: what is almost one", "401, or 400 for two keys; never repeated, never logged",
            f"{len(tries)} tries: {dict(counted)}", holds=set(counted) == {400, 401})  # fmt: skip


def test_a_revoked_key_is_nobodys_at_once(stage: Stage, promise: Promise) -> None:
    """On every worker, on connections that it had opened before; also if Redis could not be told, and for good."""
    for told in (True, False):
        text = add(stage, f"to-be-revoked-{told}", "users:read")
        fields = {"X-API-Key": text}
        with ExitStack() as stack:
            clients = on_every_worker(stage, stack)

            def statuses(clients: list[Client] = clients, fields: dict[str, str] = fields) -> set[int]:
                return {client.ask("GET", CLOSED, fields).status for client in clients}

            wait_until(lambda: statuses() == {200}, timeout_s=10, what="every worker knows the key")
            ports = {client.wire.sock.getsockname()[1] for client in clients}
            workers = [pid for pid in stage.gateway.workers if _serves(pid, ports)]
            with registry_at(stage) as (settings, registry):
                if told:
                    cli.revoke(settings, name=f"to-be-revoked-{told}")
                else:
                    registry.revoke_key(f"to-be-revoked-{told}")
                began_s = time.monotonic()
            wait_until(lambda: statuses() == {401}, timeout_s=10, interval_s=0.01, what="it is revoked")
            took_s = time.monotonic() - began_s
            again = statuses()
        how = "revoked" if told else "revoked while Redis is not told"
        promise(f"keys: {how}", f"worth nothing on every worker within {REVOKED_S:g} s",
                f"{took_s:.2f} s on {len(workers)} workers, {len(clients)} kept connections",
                holds=took_s < REVOKED_S + SLACK_S and len(workers) == 2 and again == {401})  # fmt: skip


def _serves(pid: int, ports: set[int]) -> bool:
    return any(getattr(each.raddr, "port", None) in ports for each in psutil.Process(pid).net_connections("tcp"))


class Unread(str):
    """A text that fails whoever compares it, or looks at a part of it."""

    __slots__ = ()

    def _fail(self, *_: Any) -> Any:
        raise AssertionError("the key's text was looked at")

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = __getitem__ = __iter__ = _fail
    __hash__ = _fail
    startswith = endswith = find = index = count = partition = split = _fail  # type: ignore[assignment]


def test_a_keys_text_is_compared_with_nothing(promise: Promise) -> None:
    """Only its digest is: whoever looks a key up sees neither how much of it is right nor where it goes wrong."""
    text = generate()
    ring = Keyring()
    ring.replace([ApiKey(1, "a", digest(text), frozenset({"users:read"}), None, revoked=False, revision=1)])
    found = ring.find(Unread(text))
    assert found is not None
    misses = [ring.find(Unread(text[:length] + "x" * (len(text) - length))) for length in range(len(text))]
    with pytest.raises(AssertionError):
        assert Unread(text) == text
    promise(
        "keys: guessing",
        "a look-up compares digests only, and the whole of them (hmac.compare_digest)",
        f"found by digest, {len(misses)} beginnings of it are not",
        holds=found.name == "a" and not any(misses),
    )
