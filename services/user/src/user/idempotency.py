"""POST with an Idempotency-Key: done once, answered as often as it is asked.

The key, the user and the answer are stored in one transaction, so a crash leaves all of them or nothing.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from chassis.database import Database
from chassis.errors import BadRequest, Conflict, DeadlineExceeded, Problem, Unavailable
from user.repository import Keyed, SavedAnswer, User, Users

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 60.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class KeyReused(Problem):
    """422: the key belongs to another request."""

    status = 422
    slug = "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body")


class KeyInUse(Conflict):
    """409: a request with this key has not been answered yet."""

    slug = "idempotency-key-in-use"

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is still in progress", headers={"Retry-After": "1"})


class Created(NamedTuple):
    """What was created, now or by an earlier request with the same key (`replayed`)."""

    user_id: int
    answer: bytes
    replayed: bool


def parse_key(text: str | None) -> str | None:
    """The value of an `Idempotency-Key` header, None without one.

    Raises:
        BadRequest: it is not 1 to 255 visible ASCII characters.
    """
    if text is not None and not _KEY.fullmatch(text):
        message = "must be 1 to 255 visible ASCII characters"
        raise BadRequest(f"Idempotency-Key: {message}", errors=[{"field": "Idempotency-Key", "message": message}])
    return text


def fingerprint(fields: Mapping[str, Any]) -> bytes:
    """What makes two bodies the same: what they ask for, not how they are written."""
    return hashlib.sha256(orjson.dumps(dict(fields), option=orjson.OPT_SORT_KEYS)).digest()


class Idempotency:
    """Creates users once per key.

    Args:
        kept_h: how long an answer is kept, hours. After that the key is a new one.
    """

    def __init__(self, database: Database, users: Users, *, kept_h: int) -> None:
        self._database = database
        self._users = users
        self._kept_h = kept_h

    def create(self, key: str, fields: Mapping[str, Any], *, render: Callable[[User], bytes]) -> Created:
        """Create a user, or find what an earlier request with `key` created. Only what succeeded is kept.

        Raises: KeyReused, KeyInUse, user.repository.Taken.
        """
        wanted = fingerprint(fields)

        def work(cursor: Any) -> Created:
            keyed = Keyed(cursor, key)
            if not keyed.claim():
                raise KeyInUse
            saved = keyed.saved(not_older_than_h=self._kept_h)
            if saved is not None:
                if saved.fingerprint != wanted:
                    raise KeyReused
                return Created(saved.user_id, saved.answer, replayed=True)
            user = keyed.create(fields)
            answer = render(user)
            keyed.save(SavedAnswer(wanted, user.id, answer))
            return Created(user.id, answer, replayed=False)

        return self._database.transact(work)

    def sweep(self) -> None:
        """Forget what is too old; for a background thread."""
        try:
            swept = self._users.sweep_answers(older_than_h=self._kept_h)
        except (Unavailable, DeadlineExceeded):
            return  # next time
        if swept:
            log.info("Forgot %d answers kept for Idempotency-Keys", swept)
