"""One stored answer: when it may be used, whom it answers, and its header ready to be sent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import NamedTuple

from gateway.edge.cache import status as cache_status
from gateway.edge.cache.freshness import Terms, http_date
from gateway.edge.fetched import SERVER
from gateway.edge.headers import Header

Selector = tuple[tuple[bytes, bytes | None], ...]
"""What a request must have in the fields that `Vary` names, in the order of their names."""

REPLACED = frozenset({b"age", b"content-length"})
"""Fields of a kept answer that are said anew each time."""
_OF_THE_BODY = frozenset({b"content-encoding", b"content-length", b"content-range", b"content-type"})
"""A 304 leaves these as they were (RFC 9111 section 3.2)."""
_NOT_IN_304 = _OF_THE_BODY | {b"content-language", b"content-disposition"}
_TAG = re.compile(rb'(?:W/)?("[^"]*")')

ENTRY_BYTES = 700
FIELD_BYTES = 140
"""About what CPython takes for an entry's and a field's objects; the texts come on top, those of fields twice."""


class ReadyHead(list[Header]):
    """A response's fields as a server wants them that can do with less: only what frames the body is in the list,
    all of them are in `lines`, as they go over the wire. See `gateway.worker`.
    """

    __slots__ = ("lines",)

    lines: bytes


class Validators(NamedTuple):
    """What an answer can be told apart by. `modified` is a date as it came."""

    etag: bytes | None
    modified: bytes | None


def selector(names: tuple[bytes, ...], headers: Mapping[bytes, bytes]) -> Selector:
    """What `headers`, of a request, have in the fields of these names. White space around commas does not matter, but
    where there are quotes.
    """
    return tuple((name, _collated(headers.get(name))) for name in names)


def _collated(value: bytes | None) -> bytes | None:
    if value is None or b"," not in value or b'"' in value:
        return value
    return b",".join(part.strip(b" \t") for part in value.split(b","))


class Entry:
    """One stored answer. Times are seconds on the monotonic clock.

    Args:
        headers: all that came, in lower case, without what belongs to a connection.
        selected_by: the requests that it answers.
        born_s: when its age was 0.
        came: the same as Unix time of when it came, for one that has no `Date`.
    """

    __slots__ = (
        "_lines",
        "_lines_until_s",
        "body",
        "born_s",
        "fresh_until_s",
        "headers",
        "length",
        "retry_s",
        "selected_by",
        "size",
        "status",
        "terms",
        "validators",
    )

    def __init__(
        self, *, status: int, headers: list[Header], terms: Terms, selected_by: Selector, born_s: float, came: float
    ) -> None:
        self.status = status
        self.headers = [item for item in headers if item[0] not in REPLACED]
        fields = dict(headers)
        if b"date" not in fields:
            self.headers.append((b"date", formatdate(came, usegmt=True).encode()))
        self.terms = terms
        self.selected_by = selected_by
        self.born_s = born_s
        self.fresh_until_s = -math.inf if terms.always_ask else born_s + terms.lifetime_s
        self.retry_s = -math.inf  # after a failure the service is not asked again before this
        self.validators = Validators(fields.get(b"etag"), fields.get(b"last-modified"))
        self._lines = b""
        self._lines_until_s = -math.inf
        self.take_body(b"")

    def take_body(self, body: bytes) -> None:
        """Its body, all of it."""
        self.body = body
        self.length: Header = (b"content-length", b"%d" % len(body))
        texts = 2 * sum(len(name) + len(value) for name, value in self.headers)
        texts += sum(len(name) + len(value or b"") for name, value in self.selected_by)
        fields = len(self.headers) + len(self.selected_by)
        self.size = ENTRY_BYTES + len(body) + fields * FIELD_BYTES + texts

    # --- when it may be used -----------------------------------------------------------------------------------------

    def age_s(self, now_s: float) -> int:
        """Its current age in whole seconds."""
        return max(0, int(now_s - self.born_s))

    def ttl_s(self, now_s: float) -> int:
        """How long it is still fresh, in whole seconds; negative: how long it has not been."""
        return math.ceil(self.born_s + self.terms.lifetime_s - now_s)

    def bridges_refresh(self, now_s: float) -> bool:
        """Whether it may be used while it is asked for again (RFC 5861 section 3)."""
        allowed_s = self.terms.stale_while_revalidate_s
        return allowed_s > 0 and now_s < self.fresh_until_s + allowed_s

    def bridges_error(self, now_s: float) -> bool:
        """Whether it may be used when asking for it fails (RFC 5861 section 4)."""
        allowed_s = self.terms.stale_if_error_s
        return allowed_s > 0 and now_s < self.fresh_until_s + allowed_s

    # --- whom it answers ---------------------------------------------------------------------------------------------

    def answers(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these fields is one of those that it answers (RFC 9111 section 4.1)."""
        return all(_collated(headers.get(name)) == value for name, value in self.selected_by)

    def unchanged_for(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the client has it already, by the request's condition (RFC 9111 section 4.3.2)."""
        if self.status != 200:
            return False
        condition = headers.get(b"if-none-match")
        etag, modified = self.validators
        if condition is not None:
            if condition.strip(b" \t") == b"*":
                return True
            return etag is not None and etag.removeprefix(b"W/") in _TAG.findall(condition)
        since = http_date(headers.get(b"if-modified-since"))
        if since is None:
            return False
        changed = http_date(modified if modified is not None else dict(self.headers).get(b"date"))
        return changed is not None and changed <= since

    # --- validation with the service ---------------------------------------------------------------------------------

    @property
    def condition(self) -> tuple[Header, ...]:
        """The fields of a request that asks whether it still is what the service would answer."""
        etag, modified = self.validators
        found = []
        if etag is not None:
            found.append((b"if-none-match", etag))
        if modified is not None and http_date(modified) is not None:
            found.append((b"if-modified-since", modified))
        return tuple(found)

    def is_meant_by(self, headers: list[Header]) -> bool:
        """Whether a 304 with these fields speaks of it (RFC 9111 section 4.3.4)."""
        etag = dict(headers).get(b"etag")
        mine = self.validators.etag
        return etag is None or mine is None or etag.removeprefix(b"W/") == mine.removeprefix(b"W/")

    def headers_after(self, headers: list[Header]) -> list[Header]:
        """Its fields once a 304 with `headers` has spoken of it."""
        new = [item for item in headers if item[0] not in _OF_THE_BODY]
        names = {name for name, _ in new}
        return [item for item in self.headers if item[0] not in names] + new

    # --- sending -----------------------------------------------------------------------------------------------------

    def head(self, request_id: bytes, *, status: bytes, age_s: int | None) -> list[Header]:
        """The fields of an answer with it. `status` is its `Cache-Status`; None: no age, it comes from the service."""
        head = [*self.headers, self.length, cache_status.field(status), (b"x-request-id", request_id), SERVER]
        if age_s is not None:
            head.append((b"age", b"%d" % age_s))
        return head

    def head_unchanged(self, request_id: bytes, *, status: bytes, age_s: int | None) -> list[Header]:
        """The same of a 304 (RFC 9110 section 15.4.5)."""
        return [item for item in self.head(request_id, status=status, age_s=age_s) if item[0] not in _NOT_IN_304]

    def ready_head(self, request_id: bytes, now_s: float) -> ReadyHead:
        """The same of a plain hit, put together once a second."""
        if now_s >= self._lines_until_s:
            age_s = self.age_s(now_s)
            fields = self.head(b"", status=cache_status.hit(self.ttl_s(now_s)), age_s=age_s)
            said = b"".join(b"%b: %b\r\n" % item for item in fields if item[0] != b"x-request-id")
            self._lines = said + b"x-request-id: "
            self._lines_until_s = self.born_s + age_s + 1
        head = ReadyHead((self.length,))
        head.lines = b"%b%b\r\n" % (self._lines, request_id)
        return head
