"""Open redirects: no answer of the storefront sends anybody elsewhere but what a short link was made for."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from chassis.testing.wire import Client, Message
from tests.hostile.stage import SERVICES, Stage
from tests.promises import Promise

pytestmark = pytest.mark.hostile

EVIL = "evil.example"
TAILS = (
    "//{e}", "///{e}", "////{e}/..", "/\\{e}", "/\\/{e}", "\\\\{e}", "/%09/{e}", "/%5c{e}", "/%5C%5C{e}", "/%2f%2f{e}",
    "/%2F{e}", "//{e}/%2e%2e", "//{e}/%2f..", "/;@{e}", "/@{e}", "/.{e}", "/{e}", "//{e}:80", "//x@{e}/", "/https:/{e}",
    "/https://{e}", "/http:{e}", "/%0d%0aLocation:%20https://{e}", "/%0aSet-Cookie:a={e}", "/%E5%98%8A%E5%98%8Dx:{e}",
    "/javascript:alert(1)//{e}", "//%E3%80%82{e}", "//{e}%00", "/..;/{e}", "/%252f%252f{e}", "/?url=https://{e}",
    "/?next=//{e}", "?redirect=https://{e}", "?return_to=//{e}&next=//{e}&url=//{e}",
)  # fmt: skip
FRONTS = (
    "", "/", "/s", "/s/", "/qr", "/links", "/links/", "/links/s", "/links/static", "/static", "/docs", "/api/products",
    "/api/products/1", "/api/v1/links", "/api/v1/users", "/api/v1/routes", "/t", "/t/storefront", "/t/storefront/links",
    "/t/storefront/links/s", "/catalogue/docs", "/user/docs", "/gateway/docs", "/health", "/status",
    "/api/service-status",
)  # fmt: skip
FORGED = {
    "Host": EVIL, "X-Forwarded-Host": EVIL, "Forwarded": f"host={EVIL};proto=https", "X-Forwarded-Proto": "javascript",
    "X-Forwarded-Prefix": f"//{EVIL}", "X-Forwarded-Port": "666", "Origin": f"https://{EVIL}",
    "Referer": f"https://{EVIL}/",
    "X-Original-URL": f"//{EVIL}", "X-Host": EVIL, "X-Forwarded-Server": EVIL,
}  # fmt: skip
LEADS = ("location", "refresh", "content-location", "link", "set-cookie", "access-control-allow-origin")


def leads(answer: Message, word: str = EVIL) -> list[str]:
    """Fields of an answer by which a client could be led to a host of that name."""
    found = []
    for name in LEADS:
        for value in answer.all(name):
            # In a path or a query of our own it is only a word.
            away = re.search(rf"(?i)^\s*(?:[a-z][a-z0-9+.-]*:|[\\/]\s*[\\/])[^?#]*{re.escape(word)}", value)
            elsewhere = re.search(rf"(?i)<\s*(?:[a-z][a-z0-9+.-]*:|[\\/]\s*[\\/])[^>?#]*{re.escape(word)}", value)
            if away or elsewhere or (name not in ("location", "link", "content-location") and word in value):
                found.append(f"{answer.start} {name}: {value}")
    return found


def targets() -> Iterator[str]:
    """Every path with every trick behind it."""
    for front in FRONTS:
        for tail in TAILS:
            target = front + tail.replace("{e}", EVIL)
            yield target if target.startswith("/") else f"/{target}"


@pytest.mark.parametrize(
    ("field", "value", "is_one"),
    [
        ("location", f"https://{EVIL}/", True), ("location", f"//{EVIL}", True), ("location", f"/\\{EVIL}", True),
        ("location", f"\\\\{EVIL}/x", True), ("location", f"javascript:alert('{EVIL}')", True),
        ("location", f"https://x@{EVIL}", True), ("link", f'<//{EVIL}/s.css>; rel="preload"', True),
        ("set-cookie", f"a=b; Domain={EVIL}", True), ("refresh", f"0; url=//{EVIL}", True),
        ("location", f"/login?next=//{EVIL}", False), ("location", f"https://shop/{EVIL}".replace(EVIL, "x"), False),
        ("link", f'</api/products?q={EVIL}&page=2>; rel="next"', False), ("x-other", f"//{EVIL}", False),
    ],
)  # fmt: skip
def test_what_leads_away_is_seen(field: str, value: str, is_one: bool) -> None:
    """The eyes of the tests below."""
    assert bool(leads(Message("HTTP/1.1 302 Found", [(field, value)]))) is is_one


@pytest.mark.parametrize("service", SERVICES)
def test_no_path_leads_elsewhere(stage: Stage, promise: Promise, service: str) -> None:
    """Slashes, backslashes, escapes, line ends, parameters that other sites redirect by: no field leads away."""
    watch, led, count = stage.watch(), list[str](), 0
    client = Client(stage.port(service))
    for number, target in enumerate(targets()):
        name = list(FORGED)[number % len(FORGED)]
        headers = {name: FORGED[name]} if name != "Host" else {}
        answer = client.ask("GET", target, headers, host=EVIL if name == "Host" else "shop")
        led += [f"{target}: {lead}" for lead in leads(answer)]
        count += 1
        if answer.get("connection") == "close":
            client.wire.close()
            client = Client(stage.port(service))
    client.wire.close()
    stage.settle()
    errors, traces = watch.server_errors(), watch.tracebacks()
    promise(
        f"paths that name another host, at {service}",
        "no answer leads there",
        f"{count} requests: {len(led)}",
        holds=not led,
    )
    promise(
        f"paths that name another host, at {service}", "no 5xx, no traceback",
        f"{len(errors)} 5xx, {len(traces)} tracebacks",
        holds=not errors + traces,
    )  # fmt: skip
    assert not led + errors + traces, "\n".join((led + errors + traces)[:20])


def test_addresses_in_answers_are_our_own(stage: Stage, promise: Promise) -> None:
    """Short links, `Location` and `Link` are made of PUBLIC_URL, or are paths, whatever host a request claims."""
    wrong, count = [], 0
    base = stage.url("gateway")
    for name, value in FORGED.items():
        host = value if name == "Host" else "shop"
        headers = {"X-API-Key": stage.keys["admin"], "Content-Type": "application/json"}
        headers |= {name: value} if name != "Host" else {}
        code, word = f"own-{secrets.token_hex(4)}", secrets.token_hex(6)
        with Client(stage.port("gateway")) as client:
            link = client.ask(
                "POST",
                "/api/v1/links",
                headers,
                f'{{"url":"https://example.com/","code":"{code}"}}'.encode(),
                host=host,
            )
            person = f'{{"username":"u{word}","email":"{word}@example.com"}}'.encode()
            answers = [
                link,
                client.ask("GET", f"/s/{code}", headers, host=host),
                client.ask("GET", f"/api/v1/links/{code}", headers, host=host),
                client.ask("GET", "/api/v1/links?per_page=1", headers, host=host),
                client.ask("GET", f"/links?made={code}", headers, host=host),
                client.ask("POST", "/api/v1/users", headers, person, host=host),
                client.ask("GET", "/api/v1/users?per_page=1", headers, host=host),
                client.ask("GET", "/api/products?per_page=1", headers, host=host),
                client.ask("GET", "/docs", headers, host=host),
                client.ask("GET", "/links/openapi.json", headers, host=host),
            ]
        count += len(answers)
        made = link.json()
        if (made["short_url"], made["qr_url"]) != (f"{base}/s/{code}", f"{base}/qr/{code}.svg"):
            wrong.append(f"{name}: {made}")
        if answers[1].get("location") != "https://example.com/" or answers[1].status != 302:
            wrong.append(f"{name}: {answers[1].headers}")
        wrong += [f"{name}: {lead}" for answer in answers for lead in leads(answer)]
        wrong += [f"{name}: in the body of {answer.start}" for answer in answers if EVIL.encode() in answer.body]
        wrong += [f"{name}: {answer.start}" for answer in answers if answer.status not in (200, 201, 302)]
    promise(
        "forged hosts",
        "links, `Location` and pages are our own",
        f"{count} answers: {len(wrong)} are not",
        holds=not wrong,
    )
    assert not wrong, "\n".join(wrong[:20])


def test_a_code_leads_where_it_was_made_for(stage: Stage, promise: Promise) -> None:
    """And nothing that is written behind or around it changes that, or leads anywhere at all."""
    code = f"here-{secrets.token_hex(4)}"
    made = stage.call("POST", "/api/v1/links", {"url": "https://example.com/a?b#c", "code": code}, key="sharer")
    assert made.status == 201
    wrong, count = [], 0
    for service in ("gateway", "links"):
        for tail in ("", *(tail.replace("{e}", EVIL) for tail in TAILS)):
            with Client(stage.port(service)) as client:
                answer = client.ask("GET", f"/s/{code}{tail}")
            count += 1
            straight = tail.startswith(("?", "/?")) or not tail
            if answer.status == 302:
                wrong += (
                    []
                    if answer.get("location") == "https://example.com/a?b#c" and straight
                    else [f"{tail}: {answer.headers}"]
                )
            elif answer.status not in (400, 404):
                wrong.append(f"{tail}: {answer.start}")
            wrong += [f"{tail}: {lead}" for lead in leads(answer)]
    promise(
        "a short link with more behind it",
        "404, or where it was made for",
        f"{count} requests: {len(wrong)} elsewhere",
        holds=not wrong,
    )
    assert not wrong, "\n".join(wrong[:20])
