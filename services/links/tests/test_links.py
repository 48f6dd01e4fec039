"""Making links, finding, changing and deleting them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from chassis.database import Database
from chassis.metrics import Metrics
from chassis.settings import DatabaseSettings, SettingsError, load, parse_database_url
from links import codes
from links.repository import Links, Taken
from links.settings import Settings

LINKS = "/api/v1/links"
URL = "https://example.com/a?b=c#d"
SHOP = {"X-Caller": "shop", "X-Caller-Scopes": "links:write"}
OTHER = {"X-Caller": "other", "X-Caller-Scopes": "links:write"}
ADMIN = {"X-Caller": "boss", "X-Caller-Scopes": "admin"}


def make(client: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """A new link, as the service answers it."""
    answer = client.post(LINKS, json={"url": URL, **fields}, headers=headers or {})
    assert answer.status_code == 201, answer.json
    return answer.json


def in_days(days: float) -> str:
    """A time that far from now, as the API takes it."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def test_a_link_is_made_and_found(client: Any) -> None:
    """201 with the code, the addresses and where the link is; the same is found there."""
    answer = client.post(LINKS, json={"url": URL})
    made = answer.json
    code = made["code"]
    assert re.fullmatch("[A-Za-z0-9]{7}", code)
    assert made["url"] == URL
    assert made["short_url"] == f"http://127.0.0.1:8000/s/{code}"
    assert made["qr_url"] == f"http://127.0.0.1:8000/qr/{code}.svg"
    assert (made["clicks"], made["disabled"], made["expires_at"]) == (0, False, None)
    assert datetime.fromisoformat(made["created_at"]).utcoffset() == timedelta(0)
    assert answer.headers["Location"] == f"{LINKS}/{code}"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert client.get(f"{LINKS}/{code}").json == made


def test_own_codes(client: Any) -> None:
    """A code of one's own is taken as it is; again it is 409; what is reserved or malformed is 422, by name."""
    assert make(client, code="Spring_Sale-26")["code"] == "Spring_Sale-26"
    taken = client.post(LINKS, json={"url": URL, "code": "Spring_Sale-26"})
    assert (taken.status_code, taken.json["type"]) == (409, "urn:problem:code-taken")
    assert make(client, code="spring_sale-26")["code"] == "spring_sale-26"
    for code in ("admin", "API", "-login-", "ab", "a" * 33, "a b", "a/b", "a.b", "schön", "abc\n", "", 7):
        refused = client.post(LINKS, json={"url": URL, "code": code})
        assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "code"), code


def test_expiry_must_be_in_the_future(client: Any) -> None:
    """A time with an offset, be it one that PostgreSQL does not know, is taken; one without, or in the past, is 422."""
    for wanted in (in_days(1), "2099-01-01T00:00:00-17:09", "9999-12-31T23:59:59+23:59"):
        assert datetime.fromisoformat(make(client, expires_at=wanted)["expires_at"]) == datetime.fromisoformat(wanted)
    for bad in (
        in_days(-1),
        "2099-01-01T00:00:00",
        "tomorrow",
        4_102_444_800,
        "4102444800",
        "9999-12-31T23:59:59-17:09",
        "0001-01-01T00:00:00+01:00",
    ):
        refused = client.post(LINKS, json={"url": URL, "expires_at": bad})
        assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "expires_at")


def test_what_is_no_link_is_refused(client: Any) -> None:
    """What cannot be read is 400, 413 or 415, what can be and is no link 422; always a problem."""
    kind = "application/json"
    cases: list[tuple[dict[str, Any], int]] = [
        ({"data": "{", "content_type": kind}, 400),
        ({"data": "url=https://example.com", "content_type": "text/plain"}, 415),
        ({"json": {}}, 422),
        ({"json": {"url": URL, "owner": "me"}}, 422),
        ({"json": {"url": "https://example.com/\x00"}}, 422),
        ({"data": '{"url": "https://example.com/\\ud800"}', "content_type": kind}, 400),
        ({"data": "x" * 70_000, "content_type": kind}, 413),
    ]
    for options, status in cases:
        refused = client.post(LINKS, **options)
        assert (refused.status_code, refused.mimetype) == (status, "application/problem+json"), options


def test_a_link_is_switched_off_and_on(client: Any) -> None:
    """PATCH sets what is sent and leaves the rest; nothing or nonsense is 422; what is not there is 404."""
    code = make(client)["code"]
    later = in_days(2)
    changed = client.patch(f"{LINKS}/{code}", json={"disabled": True, "expires_at": later})
    assert (changed.status_code, changed.json["disabled"]) == (200, True)
    assert client.patch(f"{LINKS}/{code}", json={"disabled": False}).json["expires_at"] is not None
    back = client.patch(f"{LINKS}/{code}", json={"expires_at": None}).json
    assert (back["disabled"], back["expires_at"]) == (False, None)
    for bad in (
        {},
        {"disabled": None},
        {"disabled": 1},
        {"disabled": "true"},
        {"url": URL},
        {"expires_at": in_days(-1)},
    ):
        assert client.patch(f"{LINKS}/{code}", json=bad).status_code == 422
    assert client.patch(f"{LINKS}/nothere", json={"disabled": True}).status_code == 404


def test_a_deleted_link_leaves_nothing_but_its_code(client: Any, sql: Any) -> None:
    """It is 404 everywhere, where it led is forgotten, and nobody gets its code again."""
    code = make(client, code="poster")["code"]
    assert client.delete(f"{LINKS}/{code}").status_code == 204
    for answer in (client.delete(f"{LINKS}/{code}"), client.get(f"{LINKS}/{code}"), client.get(f"/s/{code}")):
        assert answer.status_code == 404
    assert client.post(LINKS, json={"url": URL, "code": "poster"}).status_code == 409
    assert sql("SELECT url FROM links") == [("",)]


def test_one_sees_ones_own(client: Any) -> None:
    """A key sees and changes its own links; the admin's all of them; so does who comes past the gateway."""
    mine, theirs = make(client, SHOP)["code"], make(client, OTHER)["code"]
    path = f"{LINKS}/{theirs}"
    assert client.get(path, headers=SHOP).status_code == 404
    assert client.patch(path, json={"disabled": True}, headers=SHOP).status_code == 404
    assert client.delete(path, headers=SHOP).status_code == 404
    assert [link["code"] for link in client.get(LINKS, headers=SHOP).json["links"]] == [mine]
    for headers in (ADMIN, {}):
        assert [link["code"] for link in client.get(LINKS, headers=headers).json["links"]] == [theirs, mine]
    assert client.get(path, headers=OTHER).json["disabled"] is False


def test_a_walk_meets_every_link_once(client: Any) -> None:
    """The newest first, by `next` in Link, while others are made; more than 100 a page means 100."""
    made = [make(client, SHOP)["code"] for _ in range(5)]
    path: str | None = f"{LINKS}?per_page=2"
    seen: list[str] = []
    while path:
        answer = client.get(path, headers=SHOP)
        seen += [link["code"] for link in answer.json["links"]]
        make(client, SHOP)
        found = re.search(r'<([^>]*)>; rel="next"', answer.headers["Link"])
        path = found[1] if found else None
    assert seen == made[::-1]
    assert client.get(f"{LINKS}?per_page=500").json["per_page"] == 100
    for bad in ("per_page=0", "per_page=x", "before=-1", "page=2", "before=1&before=2"):
        assert client.get(f"{LINKS}?{bad}").status_code == 400


def test_a_code_that_is_taken_by_chance_is_made_anew(database_url: str) -> None:
    """A collision costs another try, and no link is lost; ten in a row are no chance any more, and end in 409."""
    numbers = count()
    metrics = Metrics(service="links", version="", commit="")
    database = Database(DatabaseSettings(**parse_database_url(database_url)), application="test", metrics=metrics)
    links = Links(database, make_code=lambda: f"same-{next(numbers) // 3}")
    fields: dict[str, Any] = {"url": URL, "code": None, "expires_at": None, "owner": ""}
    assert [links.create(**fields)["code"] for _ in range(3)] == ["same-0", "same-1", "same-2"]
    stuck = Links(database, make_code=lambda: "same-0")
    with pytest.raises(Taken):
        stuck.create(**fields)
    database.close()


def test_codes_cannot_be_guessed() -> None:
    """Ten thousand codes differ, and every letter and digit stands at every place about as often as any other."""
    made = {codes.generate() for _ in range(10_000)}
    assert len(made) == 10_000
    for place in range(7):
        counts = [sum(code[place] == sign for code in made) for sign in codes._ALPHABET]
        assert min(counts) > 80
        assert max(counts) < 260


def test_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect function without an address, or an address that is none, stops the boot with one line."""
    for name, value in {
        "CLOUD_FUNCTION_URL": "",
        "PUBLIC_URL": "shop.example",
        "GCS_BUCKET": "No Bucket",
        "LINKS_CACHE_TTL_SECONDS": "soon",
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv("USE_CLOUD_FUNCTION_REDIRECT", str(name == "CLOUD_FUNCTION_URL"))
            patch.setenv(name, value)
            with pytest.raises(SettingsError, match=f"^{name}: got .*, want .*$"):
                load(Settings)
