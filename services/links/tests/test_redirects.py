"""Following links, and counting it."""

from __future__ import annotations

from typing import Any

import redis

from chassis.servers import ValkeyServer
from chassis.testing import wait_until
from chassis.testing.apps import MakeApp

LINKS = "/api/v1/links"
URL = "https://example.com/a?b=c#d"


def make(client: Any, **fields: Any) -> str:
    """The code of a new link."""
    return str(client.post(LINKS, json={"url": URL, **fields}).json["code"])


def clicks(client: Any, code: str) -> int:
    """How often a link was followed, as the API says."""
    return int(client.get(f"{LINKS}/{code}").json["clicks"])


def test_a_link_leads_where_it_should(client: Any) -> None:
    """302 with what browsers and robots are to know; 404 for what there is not, whatever it looks like."""
    code = make(client)
    for _ in range(3):  # from PostgreSQL, twice, as it has just changed
        answer = client.get(f"/s/{code}")
        assert (answer.status_code, answer.headers["Location"], answer.data) == (302, URL, b"")
        assert answer.headers["Cache-Control"] == "private, max-age=0"
        assert answer.headers["X-Robots-Tag"] == "noindex"
    for bad in ("nothere", "ab", "", "a.b", f"{code}/", f"{code}%0d%0aX:y", "%ff%fe%fd", "%c5%bf%c5%bf%c5%bf"):
        assert client.get(f"/s/{bad}").status_code == 404, bad
    assert client.post(f"/s/{code}").status_code == 405


def test_both_ways_to_a_redirect_answer_alike(client: Any, redis_url: str, sql: Any) -> None:
    """What Redis knows is answered ahead of Flask, with the very answer that Flask gives, and counted alike."""
    code = make(client)
    with redis.Redis.from_url(redis_url) as server:
        server.flushdb()
        slow = client.get(f"/s/{code}")
        assert server.get(f"{{links}}:to:{code}") == b"+" + URL.encode()
    fast = client.get(f"/s/{code}")
    plain = {name: value for name, value in slow.headers if name != "X-Request-ID"}
    assert {name: value for name, value in fast.headers if name != "X-Request-ID"} == plain
    assert (fast.status, fast.data) == (slow.status, slow.data)
    head = client.head(f"/s/{code}")
    assert (head.status_code, head.headers["Location"]) == (302, URL)
    assert clicks(client, code) == 2
    metrics = client.get("/metrics").text
    assert 'links_http_requests_total{endpoint="redirect",method="GET",status="302"} 2.0' in metrics
    assert 'cache_requests_total{result="hit"} 2.0' in metrics
    sql("UPDATE links SET url = 'https://example.org/'")
    assert client.get(f"/s/{code}").headers["Location"] == URL  # so it was Redis


def test_that_there_is_no_link_is_remembered(client: Any, redis_url: str) -> None:
    """Redis knows of unknown codes and of links that are gone, until a link of that code is made or changed."""
    assert client.get("/s/later").status_code == 404
    with redis.Redis.from_url(redis_url) as server:
        assert server.get("{links}:to:later") == b"-"
        assert 0 < server.pttl("{links}:to:later") <= 60_000
        make(client, code="later")
        assert client.get("/s/later").status_code == 302
        client.patch(f"{LINKS}/later", json={"disabled": True})
        assert client.get("/s/later").status_code == 410
        server.delete("{links}:to:later")
        for _ in range(2):
            gone = client.get("/s/later")
            assert (gone.status_code, gone.json["type"]) == (410, "urn:problem:link-gone")
        assert server.get("{links}:to:later") == b"!"
        client.patch(f"{LINKS}/later", json={"disabled": False})
        assert client.get("/s/later").status_code == 302


def test_a_reader_does_not_bring_back_what_was_changed(client: Any, redis_url: str) -> None:
    """After a change Redis says "ask" for longer than a reader can take, and readers write only where nothing is."""
    code = make(client)
    with redis.Redis.from_url(redis_url) as server:
        assert server.get(f"{{links}}:to:{code}") == b"?"
        assert server.pttl(f"{{links}}:to:{code}") > 2 * 800
        assert client.get(f"/s/{code}").status_code == 302
        assert server.get(f"{{links}}:to:{code}") == b"?"


def test_an_expired_link_is_gone(client: Any, redis_url: str, sql: Any) -> None:
    """410 from the moment on, and Redis never remembers it for longer than it lives."""
    code = make(client)
    with redis.Redis.from_url(redis_url) as server:
        server.flushdb()
        sql("UPDATE links SET expires_at = now() + interval '5 s'")
        assert client.get(f"/s/{code}").status_code == 302
        assert 0 < server.pttl(f"{{links}}:to:{code}") <= 5000
        server.flushdb()
        sql("UPDATE links SET expires_at = now()")
        assert client.get(f"/s/{code}").status_code == 410


def test_clicks_are_stored_together(client: Any, sql: Any) -> None:
    """However many clicks there are, they are few writes; and they are all there."""
    codes = [make(client) for _ in range(3)]
    for number, code in enumerate(codes, 1):
        for _ in range(10 * number):
            client.get(f"/s/{code}")
    wait_until(lambda: sql("SELECT sum(clicks) FROM links") == [(60,)])
    assert [clicks(client, code) for code in codes] == [10, 20, 30]
    assert len(sql("SELECT FROM links_batches")) < 10


def test_without_redis_all_is_the_same(database_url: str, make_app: MakeApp) -> None:
    """Without a cache links lead where they should, and clicks are counted."""
    client: Any = make_app(DATABASE_URL=database_url).test_client()
    code = make(client)
    for _ in range(3):
        assert client.get(f"/s/{code}").headers["Location"] == URL
    client.head(f"/s/{code}")
    assert clicks(client, code) == 3
    assert client.get("/health").json["status"] == "healthy"


def test_the_redirect_function_takes_over(database_url: str, redis_url: str, make_app: MakeApp) -> None:
    """With USE_CLOUD_FUNCTION_REDIRECT every code leads to the function, which counts; QR codes stay as they are."""
    client: Any = make_app(
        DATABASE_URL=database_url, REDIS_URL=redis_url,
        USE_CLOUD_FUNCTION_REDIRECT="true", CLOUD_FUNCTION_URL="https://go.example/redirect/",
    ).test_client()  # fmt: skip
    code = make(client)
    answer = client.get(f"/s/{code}")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"https://go.example/redirect/{code}")
    assert answer.headers["Cache-Control"] == "private, max-age=0"
    assert client.get("/s/a").status_code == 404
    assert clicks(client, code) == 0
    assert client.get(f"/qr/{code}.svg").status_code == 200
    own = client.post(LINKS, json={"url": f"https://GO.example/redirect/{code}"})
    assert own.status_code == 422


def test_redis_dies_and_comes_back(database_url: str, private_redis: ValkeyServer, make_app: MakeApp) -> None:
    """While it is away every redirect works and every click is kept; what changed meanwhile is told to it after."""
    env = {"DATABASE_URL": database_url, "REDIS_URL": private_redis.url, "REDIS_BREAKER_RESET_MS": "50"}
    client: Any = make_app(**env).test_client()
    code, other = make(client), make(client)
    for _ in range(5):
        assert client.get(f"/s/{code}").status_code == 302
    assert clicks(client, code) == 5
    with redis.Redis.from_url(private_redis.url) as server:
        server.set(f"{{links}}:to:{other}", b"+" + URL.encode())
    private_redis.pause()
    for _ in range(5):
        assert client.get(f"/s/{code}").status_code == 302
    assert client.patch(f"{LINKS}/{other}", json={"disabled": True}).status_code == 200
    assert client.get(f"/s/{other}").status_code == 410
    assert clicks(client, code) == 10
    private_redis.resume()
    wait_until(lambda: client.get("/health").json["status"] == "healthy")
    wait_until(lambda: client.get(f"/s/{other}").status_code == 410)
    assert client.get(f"/s/{code}").status_code == 302
    assert clicks(client, code) == 11
