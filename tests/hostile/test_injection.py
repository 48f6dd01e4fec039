"""Text that would like to be something else: SQL, a command of Redis, a line of a log, a sample of a metric, markup."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from catalogue.folding import fold
from chassis.testing.databases import query
from chassis.testing.gunicorn import parsed
from tests.hostile.bodies import Hostile
from tests.hostile.operations import OPERATORS, Answered, Operation, Shop, good, required_query
from tests.hostile.stage import SERVICES, Stage
from tests.promises import Promise

pytestmark = pytest.mark.hostile

LONG = bool(os.environ.get("LONG"))
SOON_S = 2.0
"""Less than any of the sleeps that are asked for."""

SQL = (
    "'", '"', "\\", "%", "_", "%s", "%(id)s", "{0}", ";", "--", "/*", "$$", "\\';--", "'/*", "\u02bc", "\uff07",
    "' OR '1'='1", "1 OR 1=1", "1) OR (1=1", "' OR 1=1--", "1/**/OR/**/1=1", "-1' UNION SELECT NULL--", "'::int",
    "' UNION SELECT id,username,email,full_name,created_at,updated_at FROM users--", "' AND 1=(SELECT 1)--",
    "'||(SELECT pg_sleep(5))||'", "1;SELECT pg_sleep(5)", "';SELECT pg_sleep(5);--", "1)+(SELECT 1 FROM pg_sleep(5)",
    "'; DROP TABLE users CASCADE;--", "1; DROP TABLE products;--", "'; DELETE FROM routes;--", "{'a'}", "ARRAY[1]",
    "'; UPDATE api_keys SET scopes='{admin}';--", "'; COPY users TO PROGRAM 'id';--", "E'\\x27'",
    "\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "a\r\nSET canary 0", "')redis.call('FLUSHALL')--",
)  # fmt: skip
CANARY = "canary:of-the-hostile-tests"

FORGED = "forged-by-a-stranger"
LINES = (
    f'\n{{"level":"{FORGED}"}}', f'\r\n{{"level":"{FORGED}"}}\r\n', f'"}}\n{{"message":"{FORGED}"}}',
    f'","level":"{FORGED}","a":"', f'\\","level":"{FORGED}"', f"\x1b[2J\x1b[31m{FORGED}\x07", f"\x9b31m{FORGED}",
    f"\u2028{FORGED}\u2029", f"\x85{FORGED}", f"\x0b\x0c\x1c\x1d\x1e{FORGED}", f"\u202e{FORGED}\u202c\u2066",
    f"\x7f\x08\x08{FORGED}", f"%s%n%d%(x)s{{0}}{FORGED}", f"${{jndi:ldap://a.example/{FORGED}}}", f"\ud83d{FORGED}",
    "\x00" + FORGED, FORGED + "a" * 3000, FORGED + "\x01" * 1200,
)  # fmt: skip
"""Each is sent as UTF-8; half a pair of surrogates too."""

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
FIELDS = {"timestamp", "level", "logger", "message", "service", "version", "request_id", "trace_id"}
REQUEST_FIELDS = FIELDS | {"method", "path", "route", "status", "duration_ms", "remote_addr"}
PIPE_BYTES = 4096

MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}&lt;"


def send_everywhere(shop: Shop, operation: Operation, text: str, *, way: str) -> Iterator[tuple[str, Answered]]:
    """Send `text` in every place of an operation: path, query, header fields, body; one after another."""
    sender, encoded = shop.senders[way], text.encode("utf-8", "surrogatepass")
    escaped = quote(encoded, safe="")
    required = required_query(operation)

    def address(**slots: str) -> str:
        return shop.target(operation, required.items(), **slots)

    for slot in operation.slots:
        yield f"{{{slot}}}", sender.send(operation.method, address(**{slot: escaped}))
    for name in operation.query:
        others = [f"{other}={quote(value)}" for other, value in required.items() if other != name]
        target = f"{shop.target(operation)}?{'&'.join([*others, f'{name}={escaped}'])}"
        yield f"?{name}", sender.send(operation.method, target)
    if not UNPRINTABLE.search(text):
        for header in operation.headers:
            body = b"" if operation.body is None else _json(good(operation))
            headers = {header: encoded.decode("latin-1"), "Content-Type": "application/json"}
            nobody = dict.fromkeys(operation.slots, "999999999") if operation.method == "DELETE" else {}
            yield header, sender.send(operation.method, address(**nobody), body, headers)
    for field in operation.fields:
        if not _has_half_a_pair(text):
            yield field, shop.send(way, operation, Hostile(field, _json({**good(operation), field: text})))


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _has_half_a_pair(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


# --- SQL ----------------------------------------------------------------------------------------------------------


def rows(stage: Stage) -> dict[str, list[str]]:
    """The ids of what is in every table, and all of what strangers cannot write."""
    found = {}
    for service in SERVICES:
        url = stage.databases[service]
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        for (table,) in query(url, tables):
            whole = table in ("products", "api_keys", "alembic_version")
            column = "t::text" if whole else "id" if table in ("users", "links", "routes") else None
            selected = f"SELECT {column} FROM {table} t ORDER BY 1"
            found[f"{service}.{table}"] = [str(row[0]) for row in query(url, selected)] if column else []
    return found


def test_sql_is_text(shop: Shop, promise: Promise) -> None:
    """In every parameter, field and header of every operation, through the gateway (LONG: and straight): no 5xx, no
    sleep, no table and no row the less, no word of PostgreSQL's.
    """
    stage = shop.stage
    shop.things  # noqa: B018 - made before the rows are counted
    watch, before = stage.watch(), rows(stage)
    statuses, slowest, wrong = Counter[int](), (0.0, ""), []
    with closing(redis.Redis.from_url(stage.redis_url)) as valkey:
        valkey.set(CANARY, "1")
        for operation in shop.operations:
            if operation.tag == OPERATORS:
                continue
            for way in operation.ways if LONG else operation.ways[-1:]:
                for text in SQL:
                    for place, answered in send_everywhere(shop, operation, text, way=way):
                        if answered.message.status == 429:  # the stage's own limit for pictures
                            continue
                        statuses[answered.message.status] += 1
                        what = f"{way}: {operation}: {place}: {text!r}"
                        slowest = max(slowest, (answered.took_s, what))
                        if answered.message.status >= 500:
                            wrong.append(f"{what}: {answered.message.status}")
                        if re.search(rb"psycopg|syntax error|pg_|SELECT |Traceback", _said(answered, text)):
                            wrong.append(f"{what}: {answered.message.body[:300]!r}")
        assert valkey.get(CANARY) == b"1"
        valkey.delete(CANARY)
    assert not wrong, "\n".join(wrong[:20])
    after = rows(stage)
    assert set(after) == set(before)
    lost = {table: sorted(set(found) - set(after[table])) for table, found in before.items()}
    assert not any(lost.values()), lost
    assert after["catalogue.products"] == before["catalogue.products"]
    assert after["gateway.api_keys"] == before["gateway.api_keys"]
    stage.settle()
    assert watch.tracebacks() == []
    assert watch.server_errors() == []
    counts = ", ".join(f"{number} × {status}" for status, number in sorted(statuses.items()))
    kept = f"{sum(map(len, before.values()))} rows of {len(before)} tables, 0 lost"
    promise("injection: SQL", "no 5xx, no row lost, no word of PostgreSQL's", f"{counts}; {kept}",
            holds=max(statuses) < 500 and len(before) > 10)  # fmt: skip
    promise("injection: SQL", f"5 s of pg_sleep are not slept: {SOON_S:g} s at the most",
            "slowest {:.2f} s ({})".format(*slowest), holds=slowest[0] < SOON_S)  # fmt: skip


def _said(answered: Answered, text: str) -> bytes:
    """The body without what was sent."""
    body = answered.message.body if answered.message.status >= 400 else b""
    return body.replace(text.encode("utf-8", "surrogatepass"), b"")


def test_a_search_finds_what_is_meant(shop: Shop, promise: Promise) -> None:
    """Products whose texts hold the words, be they wild cards or SQL, in JSON as from PostgreSQL; and of users and
    routes those that are called so: none.
    """
    everything = shop.stage.call("GET", "/api/products", service="catalogue").body
    texts = [fold("\n".join((each["name"], each["description"], *each["tags"]))) for each in everything]
    wrong, asked = [], 0
    for text in (*SQL, "a%", "_r_ne", "cr%ne", "crane", "paper' OR '1'='1", "100%", "e"):
        words = fold(" ".join(text.split())).split()
        wanted = sum(all(word in each for word in words) for each in texts) if words else len(texts)
        for way in ("catalogue", "gateway"):
            answer = shop.senders[way].send("GET", f"/api/products?q={quote(text, safe='')}").message
            asked += 1
            if answer.status != 200 or len(answer.json()) != wanted or answer.get("x-data-source") != "db":
                wrong.append((way, text, answer.status, answer.body[:200], wanted))
        for parameter in ("category", "tag"):
            found = shop.senders["catalogue"].send("GET", f"/api/products?{parameter}={quote(text, safe='')}").message
            asked += 1
            has = [
                each for each in everything if text == each["category"] or (parameter == "tag" and text in each["tags"])
            ]
            too_long = parameter == "tag" and len(text) > 50
            if found.status != (400 if too_long else 200) or not (too_long or len(found.json()) == len(has)):
                wrong.append((parameter, text, found.status, found.body[:200], len(has)))
        for parameter in ("username", "email"):
            users = shop.senders["user"].send("GET", f"/api/v1/users?{parameter}={quote(text, safe='')}").message
            asked += 1
            if users.status != 200 or users.json()["users"] != []:
                wrong.append((parameter, text, users.status, users.body[:200], 0))
    assert wrong == []
    promise("injection: wild cards", "a search finds what holds the words, and nothing else",
            f"{asked} searches, 0 otherwise", holds=asked > 200)  # fmt: skip


# --- lines of logs, and metrics ----------------------------------------------------------------------------------


def test_nobody_can_write_into_a_log_or_a_metric(shop: Shop, promise: Promise) -> None:
    """Ends of lines, JSON, terminals' escapes and marks of direction, in paths, queries, headers, methods and bodies:
    one line a request, all of it JSON, with the fields that it has to have and no other, whole in one write.
    """
    stage = shop.stage
    shop.things  # noqa: B018
    watch, sent = stage.watch(), Counter[str]()
    for operation in shop.operations:
        if operation.tag == OPERATORS:
            continue
        for text in LINES:
            for way in operation.ways if LONG else operation.ways[-1:]:
                for _, answered in send_everywhere(shop, operation, text, way=way):
                    assert answered.message.status < 500, (operation, text, answered.message.body)
                    sent[way] += 1
    for way in SERVICES:
        _send_in_odd_places(shop, way)
    stage.settle()
    lines = {service: watch.lines(service) for service in SERVICES}
    wrong = [f"{service}: {line[:300]!r}: {fault}" for service in SERVICES for line in lines[service]
             if (fault := _fault(service, line)) is not None]  # fmt: skip
    assert not wrong, "\n".join(wrong[:20])
    counted = {service: len(watch.requests(service)) for service in SERVICES}
    assert all(counted[way] >= number for way, number in sent.items()), (counted, sent)
    assert watch.tracebacks() == []
    longest = max(len(line.encode()) for service in SERVICES for line in lines[service])
    promise("injection: logs", "a line is one JSON object with its own fields, printable, and in one write",
            f"{sum(map(len, lines.values()))} lines of {sent.total()} requests, the longest {longest} bytes",
            holds=longest < PIPE_BYTES)  # fmt: skip
    _check_metrics(stage, promise)


def _send_in_odd_places(shop: Shop, way: str) -> None:
    """Paths of nothing, fields that are logged or forwarded, methods that there are not."""
    sender = shop.senders[way]
    for text in LINES:
        encoded = text.encode("utf-8", "surrogatepass")
        for path in (
            f"/{quote(encoded, safe='')}",
            f"/api/v1/users/{quote(encoded, safe='')}/x",
            f"/s/{quote(encoded)}",
        ):
            assert 400 <= sender.send("GET", path[:4000]).message.status < 500
        words = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", " ", encoded.decode("latin-1"))
        for field in (
            "User-Agent", "Referer", "X-Request-ID", "traceparent", "X-Forwarded-For", "Forwarded", "X-Api-Key",
            "Cookie", "Authorization", "X-Route-Version", "X-Route-Env", "X-Caller", "Idempotency-Key",
        ):  # fmt: skip
            assert sender.send("GET", "/nothing", headers={field: words}).message.status < 500
    for method in (f"{FORGED.upper()}", "GET%0a", "X'OR'1", "M-SEARCH", "a|b", "%s%n"):
        assert sender.send(method[:20], "/nothing").message.status < 500
        sender.close()


def _fault(service: str, line: str) -> str | None:
    """What is wrong with a line of a log; None if nothing is."""
    if UNPRINTABLE.search(line):
        return "not printable"
    record = parsed(line)
    if "raw" in record:
        return "no JSON object"
    if FORGED in str(record["level"]) or record["service"] != service or record["level"] not in LEVELS:
        return "forged"
    if "duration_ms" in record:
        if set(record) != REQUEST_FIELDS:
            return f"fields {sorted(set(record) ^ REQUEST_FIELDS)}"
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", record["request_id"]):
            return "an id that is none"
        if not record["message"].endswith(str(record["status"])):
            return "a message of another request"
    elif not set(record) >= FIELDS:
        return f"fields {sorted(set(record))}"
    return None


LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


def _check_metrics(stage: Stage, promise: Promise) -> None:
    """What was sent is in no name, label or value, and what is read is what Prometheus would read."""
    methods = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER", "-"}
    samples, wrong = 0, []
    for service in SERVICES:
        text = stage.exposition(service)
        if FORGED in text.lower() or "alert(1)" in text:
            wrong.append(f"{service}: what was sent is in /metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples += 1
                if sample.labels.get("method", "GET") not in methods:
                    wrong.append(f"{service}: {sample.name}: method {sample.labels['method']!r}")
                if not all(re.fullmatch(r"[\w.:/+ -]*", value) for value in sample.labels.values()):
                    wrong.append(f"{service}: {sample.name}: {sample.labels}")
    assert wrong == []
    promise(
        "injection: metrics",
        "labels are the services' own words",
        f"{samples} samples, 0 otherwise",
        holds=samples > 500,
    )


# --- pages --------------------------------------------------------------------------------------------------------


class Markup(HTMLParser):
    """The tags of a page, and what in it could run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.dangerous: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if (
                name.startswith("on")
                or name == "srcdoc"
                or re.match(r"\s*(javascript|data|vbscript):", value or "", re.IGNORECASE)
            ):
                self.dangerous.append(f"<{tag} {name}={value!r}>")
        if (
            tag in ("script", "iframe", "object", "embed", "base")
            and dict(attrs).get("src") != "/links/static/links.js"
        ):
            self.dangerous.append(f"<{tag}>")


def test_no_page_takes_text_for_markup(shop: Shop, promise: Promise) -> None:
    """The shop's front, the page of short links and the gateway's status: with markup in products, in the address, in
    the form, in a route. The tags are those of the page itself, and nothing in it runs.
    """
    stage = shop.stage
    link = stage.call(
        "POST", "/api/v1/links", {"url": "https://example.com/?'\"><script>alert(1)</script>"}, key="admin"
    ).body
    route = {**good(shop.find("gateway", "POST", "/api/v1/routes")), "url": "http://127.0.0.1:9/'onload='alert(1)'&lt;"}
    assert stage.call("POST", "/api/v1/routes", route, key="admin").status == 201
    pages = {
        "front": ("catalogue", "/"), "front with a query": ("gateway", f"/?q={quote(MARKUP)}"),
        "links": ("links", "/links"), "links of nothing": ("gateway", f"/links?made={quote(MARKUP)}"),
        "links made": ("gateway", f"/links?made={link['code']}"), "status": ("gateway", "/status"),
        "docs": ("gateway", f"/user/docs?x={quote(MARKUP)}"), "nothing": ("gateway", f"/{quote(MARKUP)}"),
    }  # fmt: skip
    insert = (
        "INSERT INTO products (name, description, image_url, category, tags, price) "
        "VALUES (%(m)s, %(m)s, 'javascript:alert(1)', %(short)s, ARRAY[%(short)s], 1) RETURNING id"
    )
    with closing(psycopg2.connect(stage.databases["catalogue"])) as connection, connection.cursor() as cursor:
        cursor.execute(insert, {"m": MARKUP, "short": MARKUP[:40]})
        (number,) = cursor.fetchone() or (0,)
        connection.commit()
        try:
            drawn = {name: shop.senders[way].send("GET", path).message for name, (way, path) in pages.items()}
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            body = f"url={quote(MARKUP)}&code={quote(MARKUP)}&days={quote(MARKUP)}".encode()
            drawn["form"] = shop.senders["links"].send("POST", "/links", body, form).message
        finally:
            cursor.execute("DELETE FROM products WHERE id = %s", (number,))
            connection.commit()
    assert MARKUP[3:10] not in drawn["front"].body.decode()
    assert "&lt;script&gt;" in drawn["front"].body.decode()
    wrong = []
    for name, message in drawn.items():
        if not (message.get("content-type") or "").startswith("text/html"):
            if b"<script" in message.body and message.get("content-type") != "application/problem+json":
                wrong.append(f"{name}: {message.get('content-type')}")
            continue
        markup = Markup(message.body.decode())
        picture = "<img src='javascript:alert(1)'>"  # which no browser runs, and the page's policy forbids
        if dangerous := [each for each in markup.dangerous if each != picture and name != "docs"]:
            wrong.append(f"{name}: {dangerous}")
        if name != "docs" and "content-security-policy" not in {field for field, _ in message.headers}:
            wrong.append(f"{name}: no policy")
    assert wrong == []
    promise("injection: pages", "no tag, no attribute and no script of a stranger", f"{len(drawn)} pages, 0 otherwise",
            holds=len(drawn) == len(pages) + 1)  # fmt: skip
