"""Requests of the mixtures: whole, no two writes alike, in their proportions."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from loadtest.mix import Mix, first_links, mix_of, pages


def parsed(request: bytes) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path, fields, body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, version = first.split()
    assert version == "HTTP/1.1"
    return method, path, dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize("service", ["catalogue", "user", "links", "gateway"])
def test_no_two_writes_are_alike(service: str) -> None:
    """Drawn as the open loop draws them: a body is as long as it says, and nothing that must be unique comes twice."""
    mix = mix_of(service, prefix="test", key="sf_key")
    dice = random.Random(1)
    written = []
    for _ in range(3000):
        method, path, fields, body = parsed(dice.choice(mix))
        assert len(body) == int(fields.get("Content-Length", 0))
        assert ("X-API-Key" in fields) == (service == "gateway" and path.startswith("/api/v1/"))
        assert ("X-Forwarded-For" in fields) == (service == "gateway")
        if method != "GET":
            json.loads(body)
            written.append((method, body))
    assert bool(written) == (service != "catalogue")
    assert len(written) == len(set(written))


def test_parts_have_their_weights_and_a_wrong_place_is_none() -> None:
    """What is drawn at random comes as often as its weight says."""
    mix = Mix([(3, lambda mix, _: mix.get("/a")), (1, lambda mix, _: mix.get("/b"))], prefix="test")
    assert Counter(parsed(request)[1] for request in mix[:]) == {"/a": 3, "/b": 1}
    with pytest.raises(IndexError):
        mix[4]


def test_some_ask_for_a_new_connection() -> None:
    """As many as are wanted."""
    mix = mix_of("user", prefix="test", new_connections=0.5)
    closing = sum("Connection" in parsed(random.choice(mix))[2] for _ in range(1000))
    assert 350 < closing < 650


def test_every_page_is_another_one() -> None:
    """So that a cache has to keep them all; and links that are followed have codes that are known."""
    different = pages()
    assert len({parsed(different[0])[1] for _ in range(500)}) == 500
    assert json.loads(parsed(first_links()[0])[3])["code"] == "mix-0"
