"""Destinations that are traps: none becomes a short link, by the API or by the form, and so none is redirected to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ada_url
import pytest
from flask import Flask

from chassis import migrations
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, load, parse_database_url
from links import create_app, destinations
from links.settings import Settings

pytestmark = pytest.mark.hostile

CORPUS = Path(__file__).with_name("urls.txt")
HOST = {"Host": "127.0.0.1:5002", "X-Forwarded-Host": "shop.example"}


def hostile() -> list[str]:
    """The URLs of the corpus."""
    lines = [line for line in CORPUS.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    return [line.partition("\t")[2].encode("ascii").decode("unicode_escape") for line in lines]


@pytest.fixture(scope="module")
def app(postgres_server: PostgresServer) -> Iterator[Flask]:
    """The links service on a database with its schema."""
    url = postgres_server.create_database("hostile_destinations")
    migrations.upgrade("links", DatabaseSettings(**parse_database_url(url)))
    made = create_app(load(Settings, database_url=url, cloud_function_url="https://go.example/redirect"))
    yield made
    made.extensions["lifecycle"].stop()
    postgres_server.drop_database("hostile_destinations")


def test_every_hostile_destination_is_refused(app: Flask) -> None:
    """422 that names the field, from the API; from the form, the form again. Nothing is stored."""
    client = app.test_client()
    urls = [*hostile(), "https://example.com/" + "a" * 2029, "https://example.com/" + "ä" * 500]
    assert len(urls) > 140
    taken = []
    for url in urls:
        answer = client.post("/api/v1/links", json={"url": url}, headers=HOST)
        page = client.post("/links", data={"url": url}, headers=HOST)
        fields = [error["field"] for error in (answer.json or {}).get("errors", [])]
        # A form field has no white space around it, so some of these mean another thing there.
        stripped = url.strip() != url
        if (answer.status_code, fields) != (422, ["url"]) or (page.status_code != 422 and not stripped):
            taken.append((url, answer.status_code, page.status_code))
    assert taken == []


def test_what_is_taken_is_in_one_spelling() -> None:
    """A destination is stored as a browser's parser reads it, in ASCII, and means the same when read again."""
    for written, stored in {
        "https://example.com": "https://example.com/",
        "HTTPS://Example.COM:443/A?b=ü#c": "https://example.com/A?b=%C3%BC#c",
        "https://аррӏе.com/": "https://xn--80ak6aa92e.com/",  # noqa: RUF001 - it looks like a company's
        "https://bücher.example/weiß": "https://xn--bcher-kva.example/wei%C3%9F",
        "https://faß.example/": "https://xn--fa-hia.example/",
        "https://ｅｘａｍｐｌｅ.com/": "https://example.com/",  # noqa: RUF001
        "https://example.com/a/../b/./c": "https://example.com/b/c",
        "https://example.com/a%20b%2Fc?d=%F0%9F%A6%8A": "https://example.com/a%20b%2Fc?d=%F0%9F%A6%8A",
        "https://example.com/?q=a+b&r=//x@y": "https://example.com/?q=a+b&r=//x@y",
        'https://example.com/"<>': "https://example.com/%22%3C%3E",
        "http://192.0.2.1:8080/s/abc": "http://192.0.2.1:8080/s/abc",
        "http://[2001:DB8::1]/": "http://[2001:db8::1]/",
        "http://localhost:3000/x": "http://localhost:3000/x",
        "http://a_b.example./": "http://a_b.example./",
    }.items():
        assert destinations.normalize(written) == stored
        assert destinations.normalize(stored) == stored
        assert ada_url.URL(stored).href == stored


def test_our_own_pages_may_be_linked_to(app: Flask) -> None:
    """Only redirects are refused: products, other hosts' `/s/` and names that begin alike are fine."""
    client = app.test_client()
    for url in (
        "http://127.0.0.1:8000/", "http://127.0.0.1:8000/api/products?q=/s/x", "http://shop.example/static/s.css",
        "http://shop.example/sale/s", "https://example.com/s/abcdefg", "https://shop.example.org/s/abcdefg",
        "https://go.example/", "http://192.0.2.1/s/abcdefg",
    ):  # fmt: skip
        assert client.post("/api/v1/links", json={"url": url}, headers=HOST).status_code == 201, url
