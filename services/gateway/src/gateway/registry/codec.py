"""Routes and keys as JSON: on disk, in Redis, and in what workers tell one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import orjson

from gateway.registry.batch import Batch
from gateway.registry.keys import ApiKey
from gateway.registry.route import Route
from gateway.registry.table import Change

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter."""
    each = iter(items)
    while chunk := list(islice(each, size)):
        yield chunk


def dump(value: object) -> bytes:
    """Routes, keys, and lists and dictionaries of them, as JSON."""
    return orjson.dumps(value, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)


def route_of(fields: Any) -> Route:
    """The route that `dump` made these fields of.

    Raises:
        ValueError: it did not.
    """
    try:
        return Route(
            id=int(fields["id"]),
            tenant=str(fields["tenant"]),
            service=str(fields["service"]),
            env=str(fields["env"]),
            version=str(fields["version"]),
            url=str(fields["url"]),
            active=bool(fields["active"]),
            weight=int(fields["weight"]),
            created_at=datetime.fromisoformat(fields["created_at"]),
            updated_at=datetime.fromisoformat(fields["updated_at"]),
            revision=int(fields["revision"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not a route") from error


def key_of(fields: Any) -> ApiKey:
    """The key that `dump` made these fields of.

    Raises:
        ValueError: it did not.
    """
    try:
        return ApiKey(
            id=int(fields["id"]),
            name=str(fields["name"]),
            digest=bytes.fromhex(fields["digest"]),
            scopes=frozenset(map(str, fields["scopes"])),
            limit=None if fields["limit"] is None else str(fields["limit"]),
            revoked=bool(fields["revoked"]),
            revision=int(fields["revision"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not a key") from error


def dump_batch(batch: Batch) -> bytes:
    """One message of a batch."""
    return dump(
        {
            "epoch": batch.epoch,
            "base": batch.base,
            "revision": batch.revision,
            "changes": [list(change) for change in batch.changes],
            "keys": batch.keys,
        }
    )


def load_batch(message: bytes) -> Batch:
    """The batch that `dump_batch` made this message of.

    Raises:
        ValueError: it did not.
    """
    fields = orjson.loads(message)
    try:
        changes = [
            Change(int(revision), int(route_id), None if route is None else route_of(route))
            for revision, route_id, route in fields["changes"]
        ]
        keys = [key_of(key) for key in fields["keys"]]
        return Batch(str(fields["epoch"]), int(fields["base"]), int(fields["revision"]), changes, keys)
    except (KeyError, TypeError) as error:
        raise ValueError("not a batch") from error
