"""Every operation that there is, taken from the services' own documents, and requests that would be taken."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from chassis.testing.wire import Client, Message
from tests.hostile.bodies import Hostile
from tests.hostile.stage import SERVICES, Stage

Schema = Mapping[str, Any]
OPERATORS = "operators"
"""The tag of what is for operators: health and metrics."""

GOOD: Mapping[str, Callable[[int], Any]] = {
    "active": lambda _: True,
    "code": lambda n: f"hostile-{n}",
    "disabled": lambda _: False,
    "email": lambda n: f"hostile-{n}@example.com",
    "env": lambda _: "prod",
    "expires_at": lambda _: "2090-01-01T00:00:00Z",
    "full_name": lambda n: f"Hostile {n}",
    "service": lambda n: f"hostile-{n}",
    "tenant": lambda _: "hostile",
    "url": lambda n: f"http://127.0.0.1:{10_000 + n % 50_000}/hostile",
    "username": lambda n: f"hostile-{n}",
    "version": lambda _: "v1",
    "weight": lambda _: 1,
}
"""A value for every field of every body; with another number another one where it may be there once only."""

_numbers = count(1)


@dataclass(frozen=True)
class Operation:
    """One operation of one service.

    Attributes:
        path: as in the document, with `{names}`.
        tag: what it is about.
        query: name → schema of each parameter of the query string.
        headers: names of the header fields that it reads.
        body: the schema of its body, None if it takes none.
        scope: what the document says that a key needs.
    """

    service: str
    method: str
    path: str
    tag: str
    query: Mapping[str, Schema]
    headers: tuple[str, ...]
    body: Schema | None
    scope: str | None

    def __str__(self) -> str:
        return f"{self.service} {self.method} {self.path}"

    @property
    def fields(self) -> Mapping[str, Schema]:
        """The fields of its body."""
        found: Mapping[str, Schema] = {} if self.body is None else self.body["properties"]
        return found

    @property
    def slots(self) -> list[str]:
        """The names in its path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def ways(self) -> tuple[str, ...]:
        """The services to which it can be sent: itself, and the gateway in front."""
        return ("gateway",) if self.service == "gateway" else (self.service, "gateway")


class Answered(NamedTuple):
    """An answer, and how long it took, seconds."""

    message: Message
    took_s: float


class Sender:
    """Sends requests to one service, with a key at will, on one connection as long as that is kept."""

    def __init__(self, stage: Stage, service: str, *, key: str | None = "admin") -> None:
        self._port = stage.port(service)
        self._key = stage.keys[key] if key is not None else None
        self._client: Client | None = None

    def send(self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answered:
        """One request; `target` and `headers` go over the wire as Latin-1. Fails if there is no answer."""
        began_s = time.monotonic()
        if self._client is None:
            self._client = Client(self._port, key=self._key)
        client = self._client
        try:
            try:
                message = client.ask(method, target, dict(headers or {}), body, host="shop.example")
            except ConnectionError:  # what is too large is answered before all of it was sent
                message = client.answer()
        except BaseException:
            self.close()
            raise
        if message.get("connection") == "close" or message.status == 413:  # what is too large is not read to its end
            self.close()
        return Answered(message, time.monotonic() - began_s)

    def close(self) -> None:
        """Hang up; the next request has a new connection."""
        if self._client is not None:
            with suppress(OSError):
                self._client.wire.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Shop:
    """A stage's operations, and a user, a link, a route and a product that they can be about.

    Attributes:
        senders: to each service, with the admin's key.
        stranger: to the gateway, without a key.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.operations = [operation for name in SERVICES for operation in _operations(name, _document(stage, name))]
        self.senders = {name: Sender(stage, name) for name in SERVICES}
        self.stranger = Sender(stage, "gateway", key=None)

    @cached_property
    def things(self) -> dict[str, str]:
        """What stands for the names in paths."""
        made = {"product_id": "1", "filename": "images/hero.svg"}
        for operation, slot, field in (
            (self.find("user", "POST", "/api/v1/users"), "user_id", "id"),
            (self.find("links", "POST", "/api/v1/links"), "code", "code"),
            (self.find("gateway", "POST", "/api/v1/routes"), "route_id", "id"),
        ):
            answer = self.stage.call("POST", operation.path, good(operation), key="admin")
            assert answer.status == 201, answer.body
            made[slot] = str(answer.body[field])
        return made

    def find(self, service: str, method: str, path: str) -> Operation:
        """The operation of that method and path."""
        return next(
            each for each in self.operations if (each.service, each.method, each.path) == (service, method, path)
        )

    def public(self) -> list[Operation]:
        """Those that the gateway lets through or answers for the world."""
        return [each for each in self.operations if each.tag != OPERATORS and each.path != "/status"]

    def writes(self) -> list[Operation]:
        """Those that take a body."""
        return [each for each in self.operations if each.body is not None]

    def target(self, operation: Operation, query: Iterable[tuple[str, str]] = (), **slots: str) -> str:
        """Its address, about `things` unless `slots` say otherwise, which are written as they come."""
        path = operation.path
        for slot in operation.slots:
            path = path.replace(f"{{{slot}}}", slots[slot] if slot in slots else quote(self.things[slot]))
        asked = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in query)
        return f"{path}?{asked}" if asked else path

    def send(self, way: str, operation: Operation, hostile: Hostile) -> Answered:
        """Send a body to an operation, to its service or through the gateway."""
        return self.senders[way].send(operation.method, self.target(operation), hostile.body, hostile.fields)

    def close(self) -> None:
        """Hang up."""
        for sender in (*self.senders.values(), self.stranger):
            sender.close()


def good(operation: Operation) -> dict[str, Any]:
    """A body that is taken. Whatever must be there once is new in each."""
    number = next(_numbers)
    return {field: GOOD[field](number) for field in operation.fields}


def required_query(operation: Operation) -> dict[str, str]:
    """The parameters without which it is refused."""
    return {name: str(GOOD[name](0)) for name, schema in operation.query.items() if schema.get("required")}


def _document(stage: Stage, service: str) -> dict[str, Any]:
    if service == "gateway":
        answer = stage.call("GET", "/gateway/openapi.json")
    else:
        answer = stage.call("GET", "/openapi.json", service=service)
    document: dict[str, Any] = answer.body
    return document


def _operations(service: str, document: Mapping[str, Any]) -> list[Operation]:
    def resolved(schema: Schema) -> Schema:
        reference = schema.get("$ref")
        if reference is None:
            return schema
        found: Schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        return found

    found = []
    for path, operations in document["paths"].items():
        for method, described in operations.items():
            parameters = described["parameters"]
            media = described.get("requestBody", {}).get("content", {}).get("application/json")
            scopes = [scope for each in described.get("security", ()) for needed in each.values() for scope in needed]
            found.append(
                Operation(
                    service=service,
                    method=method.upper(),
                    path=path,
                    tag=described["tags"][0],
                    query={
                        each["name"]: {**each["schema"], "required": each["required"]}
                        for each in parameters
                        if each["in"] == "query"
                    },
                    headers=tuple(each["name"] for each in parameters if each["in"] == "header"),
                    body=None if media is None else resolved(media["schema"]),
                    scope=scopes[0] if scopes else None,
                )
            )
    return found
