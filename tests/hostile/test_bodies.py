"""Bodies that break parsers, at every operation that takes one: refused by name, or kept as they were sent."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from itertools import count
from typing import Any

import pytest

from chassis.testing.wire import Message
from tests.hostile import bodies
from tests.hostile.bodies import LIMIT, Hostile
from tests.hostile.operations import Answered, Operation, Shop, good
from tests.promises import Promise

pytestmark = pytest.mark.hostile

PROBLEM = "application/problem+json"
SOON_S = 2.0
"""No body takes longer; on a quiet machine none takes a tenth of it."""

LISTS = {"users": "/api/v1/users", "links": "/api/v1/links", "routes": "/api/v1/routes"}
_numbers = count(1)


class Tally:
    """What came of a group of bodies."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.slowest = (0.0, "")
        self.wrong: list[str] = []

    def add(self, what: str, answered: Answered, wrong: str | None) -> None:
        """Count an answer; `wrong` says what is not as it should be."""
        self.statuses[answered.message.status] += 1
        self.slowest = max(self.slowest, (answered.took_s, what))
        if wrong is not None:
            self.wrong.append(f"{what}: {wrong}: {answered.message.status} {answered.message.body[:300]!r}")

    def say(self, promise: Promise, group: str) -> None:
        """Two rows of the table."""
        sent = sum(self.statuses.values())
        counts = ", ".join(f"{number} × {status}" for status, number in sorted(self.statuses.items()))
        assert not self.wrong, "\n".join(self.wrong[:20])
        promise(f"bodies: {group}", "4xx that names the field, or kept as sent; never 5xx", f"{sent}: {counts}",
                holds=sent > 0 and max(self.statuses) < 500)  # fmt: skip
        promise(f"bodies: {group}", f"answered within {SOON_S:g} s", "slowest {:.2f} s ({})".format(*self.slowest),
                holds=self.slowest[0] < SOON_S)  # fmt: skip


def refusal(message: Message, *, field: str | None = None) -> str | None:
    """What is wrong with the answer to something that must not be taken; None if nothing is.

    Args:
        field: what must be among the fields that it names.
    """
    if not 400 <= message.status < 500:
        return "not refused"
    if message.get("content-type") != PROBLEM:
        return f"no problem but {message.get('content-type')}"
    body = message.json()
    if not {"type", "title", "status", "detail", "error", "request_id"} <= set(body):
        return "a problem without its fields"
    if body["status"] != message.status or body["error"] != body["detail"]:
        return "a problem that contradicts itself"
    if field is not None and message.status in (400, 422):
        named = [error["field"] for error in body.get("errors", ())]
        if not any(name == field or name.startswith(f"{field}.") for name in named):
            return f"names {named}, and not {field!r}"
    return None


def test_no_body_that_is_none_is_taken(shop: Shop, promise: Promise) -> None:
    """Depth, numbers, encodings, sizes, bombs and types, at every operation, straight and through the gateway."""
    watch, pids = shop.stage.watch(), shop.stage.pids()
    tally = Tally()
    for operation in shop.writes():
        for way in operation.ways:
            for hostile in bodies.WHOLE:
                answered = shop.send(way, operation, hostile)
                wrong = refusal(answered.message)
                if len(hostile.body) > LIMIT and answered.message.status not in (413, 415):
                    wrong = "too large, and not 413"
                tally.add(f"{way}: {operation}: {hostile.name}", answered, wrong)
    tally.say(promise, f"{len(bodies.WHOLE)} that are none")
    _check_the_logs(shop, watch, pids)


def test_a_field_is_refused_by_its_name_or_kept_as_it_was_sent(shop: Shop, promise: Promise) -> None:
    """Every value for every field of every operation, and names that no field has."""
    watch, pids = shop.stage.watch(), shop.stage.pids()
    values, names, kept = Tally(), Tally(), dict[str, dict[str, Any]]()
    for operation in shop.writes():
        for way in operation.ways:
            for field in operation.fields:
                for name, text in bodies.VALUES:
                    value = text.replace(b"{n}", b"%d" % next(_numbers))
                    answered = shop.send(way, operation, _with(operation, field, value))
                    wrong = _judge_value(shop, operation, field, value, answered.message, kept)
                    values.add(f"{way}: {operation}: {field}: {name}", answered, wrong)
            for name, written in bodies.KEYS.items():
                answered = shop.send(way, operation, Hostile(name, _object(operation, {}, written)))
                names.add(f"{way}: {operation}: {name!r}", answered, refusal(answered.message, field=name))
    values.say(promise, f"{len(bodies.VALUES)} values for every field")
    names.say(promise, f"{len(bodies.KEYS)} names that no field has")
    _check_the_lists(shop, promise, kept)
    _check_the_logs(shop, watch, pids)


def test_of_the_same_key_twice_the_last_one_counts(shop: Shop, promise: Promise) -> None:
    """It is judged like any other, and it is what is stored: nobody behind reads the other one."""
    create = shop.find("user", "POST", "/api/v1/users")
    fields = good(create)
    wrong = []
    for first in (b'"x"', b"1", b"null", b'{"a":1}', b'"\\u0000"', b'"someone-else"'):
        fields = good(create)
        body = b'{"username":%b,%b' % (first, json.dumps(fields).encode()[1:])
        answered = shop.send("gateway", create, Hostile("twice", body)).message
        if answered.status != 201 or answered.json()["username"] != fields["username"]:
            wrong.append((first, answered.status, answered.body))
        refused = shop.send("gateway", create, Hostile("twice", body[:-1] + b',"username":%b}' % first)).message
        if first != b'"someone-else"' and refusal(refused, field="username") is not None:
            wrong.append((first, refused.status, refused.body))
    promise("bodies: the same key twice", "the last one is judged, and stored", f"{len(wrong)} of 12 otherwise",
            holds=wrong == [])  # fmt: skip


def test_forms(shop: Shop, promise: Promise) -> None:
    """The one form there is, straight and through the gateway, with a key and without: the form again, and what is
    wrong, as a page in which nothing of what was sent is markup.
    """
    watch, pids = shop.stage.watch(), shop.stage.pids()
    tally = Tally()
    for way, sender in (("links", shop.senders["links"]), ("gateway", shop.stranger)):
        for hostile in bodies.FORMS:
            for key in ("", "&key=sf_nobody"):
                form = Hostile(hostile.name, hostile.body + (key.encode() if hostile.media == bodies.FORM else b""),
                               hostile.media, hostile.headers)  # fmt: skip
                answered = sender.send("POST", "/links", form.body, form.fields)
                message, wrong = answered.message, None
                if message.status == 303 and hostile.name == bodies.TAKEN:
                    wrong = None if way == "links" else "taken without a key"
                elif not 400 <= message.status < 500:
                    wrong = "not refused"
                elif message.get("content-type") == PROBLEM:
                    wrong = refusal(message)
                elif b"<script>alert" in message.body or b"<img src=x" in message.body:
                    wrong = "what was sent is markup"
                elif message.get("content-type") != "text/html; charset=utf-8":
                    wrong = "neither a page nor a problem"
                tally.add(f"{way}: {hostile.name}", answered, wrong)
    tally.say(promise, f"{len(bodies.FORMS)} forms")
    _check_the_logs(shop, watch, pids)


def _with(operation: Operation, field: str, value: bytes) -> Hostile:
    return Hostile(field, _object(operation, {field: value}))


def _object(operation: Operation, replaced: dict[str, bytes], more: bytes | None = None) -> bytes:
    """A good body with these values, as written, in place of its own, and one more name."""
    written = {field: json.dumps(value).encode() for field, value in good(operation).items()} | replaced
    pairs = [b'"%b":%b' % (field.encode(), value) for field, value in written.items()]
    return b"{" + b",".join(pairs + ([more + b":1"] if more is not None else [])) + b"}"


def _judge_value(
    shop: Shop, operation: Operation, field: str, value: bytes, message: Message, kept: dict[str, dict[str, Any]]
) -> str | None:
    """What is wrong with the answer to a value. What was taken goes into `kept`, by its address."""
    if message.status >= 400:
        return refusal(message, field=field if _is_text_of_json(value) else None)
    answer = message.json()
    sent = json.loads(value)
    is_made = operation.service == "links" and (field == "expires_at" or sent is None)  # a date's spelling, a code
    if field in answer and not is_made and answer[field] != _as_kept(operation, field, sent):
        return f"{sent!r} was kept as {answer[field]!r}"
    address = message.get("location") or shop.target(operation)
    if address.endswith("activate"):
        address = f"{LISTS['routes']}/{answer['id']}"
    again = shop.senders["gateway"].send("GET", address).message
    if again.status != 200 or again.json() != answer:
        return f"read back as {again.status} {again.body[:300]!r}"
    kept[address] = answer
    return None


def _is_text_of_json(value: bytes) -> bool:
    """Whether any parser can read it, so that what is wrong is the field's and not the body's."""
    try:
        text = value.decode()
        json.loads(text).__repr__().encode()
    except (ValueError, RecursionError):  # UnicodeError is one
        return False
    return not any(f"\\u{half}" in text.lower() for half in ("d8", "dc")) and text.count("[") < 100


def _as_kept(operation: Operation, field: str, sent: Any) -> Any:
    """What of a value is kept: users are told that white space around it goes, and addresses have one spelling."""
    if not isinstance(sent, str) or operation.service != "user":
        return sent
    stripped = sent.strip()
    if field == "email":
        local, _, domain = stripped.rpartition("@")
        return f"{unicodedata.normalize('NFC', local)}@{unicodedata.normalize('NFKC', domain).lower()}"
    return (stripped or None) if field == "full_name" else stripped


def _check_the_lists(shop: Shop, promise: Promise, kept: dict[str, dict[str, Any]]) -> None:
    """What was taken breaks no page of a list, from the database or from Redis, and is on it as it is by itself."""
    wrong, listed = [], 0
    for name, path in LISTS.items():
        found: dict[str, dict[str, Any]] = {}
        address: str | None = f"{path}?per_page=100"
        while address is not None:
            first, second = (shop.senders["gateway"].send("GET", address).message for _ in range(2))
            if (first.status, second.status) != (200, 200) or first.json() != second.json():
                wrong.append(f"{address}: {first.status} and then {second.status}")
                break
            if second.get("x-cache") not in (None, "HIT"):
                wrong.append(f"{address}: {second.get('x-cache')} the second time")
            found |= {
                f"{path}/{each.get('id') if name != 'links' else each['code']}": each for each in first.json()[name]
            }
            following = [part for part in (first.get("link") or "").split(", ") if 'rel="next"' in part]
            address = following[0].partition("<")[2].partition(">")[0] if following else None
        for address_of_one, one in kept.items():
            if address_of_one.startswith(f"{path}/"):
                listed += 1
                if found.get(address_of_one) != one:
                    wrong.append(f"{address_of_one}: {one} is {found.get(address_of_one)} on the list")
    assert wrong == []
    promise("bodies: what was taken", "reads back the same: by itself, on its list, from the cache",
            f"{listed} things of {len(kept)}", holds=listed == len(kept) > 50)  # fmt: skip


def _check_the_logs(shop: Shop, watch: Any, pids: Any) -> None:
    shop.stage.settle()
    assert watch.tracebacks() == []
    assert watch.server_errors() == []
    for service in shop.stage.processes:
        assert [record for record in watch.records(service) if "raw" in record] == []
    assert shop.stage.pids() == pids, "a worker has died"
