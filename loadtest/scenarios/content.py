"""What is right in an answer. Each takes what a request gave and returns what the journey goes on with.

Raises:
    Wrong: with a text that has no id or name in it, for texts are counted like endpoints. A field that is missing
        or of another kind raises what Python raises, and is a wrong answer as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Wrong(Exception):
    """The answer came and is not what was asked for."""


BAD = (Wrong, LookupError, TypeError, ValueError, AttributeError)
"""What a look at a wrong answer raises."""


@dataclass(frozen=True)
class Answer:
    """An answer, with the names of `headers` in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body. Raises ValueError."""
        return json.loads(self.body)


def home(answer: Answer) -> None:
    """The shop's page, complete."""
    _need(b"<h1" in answer.body and b"</html>" in answer.body, "it is not the whole home page")


def products(answer: Answer) -> dict[int, str]:
    """A list of products: id → name."""
    found = {each["id"]: each["name"] for each in answer.json()}
    _need(len(found) > 0, "there are no products")
    return found


def matches(answer: Answer, word: str) -> None:
    """A search for a word that is in some product's name: each result has it somewhere."""
    found = answer.json()
    _need(len(found) > 0, "a search for a product's name found nothing")
    texts = [" ".join((each["name"], each["description"] or "", *each["tags"])).casefold() for each in found]
    _need(all(word.casefold() in text for text in texts), "a result has not the word that was asked for")


def product(answer: Answer, product_id: int) -> str:
    """A product, that one; its ETag."""
    _need(answer.json()["id"] == product_id, "it is another product")
    float(answer.json()["price"]["amount"])
    return answer.headers["etag"]


def unchanged(answer: Answer, product_id: int, etag: str) -> str:
    """The answer to If-None-Match: 304 without a body, or a product that has changed; its ETag."""
    if answer.status == 304:
        _need(not answer.body, "a 304 has a body")
        _need(answer.headers["etag"] == etag, "a 304 has another ETag")
        return etag
    new = product(answer, product_id)
    _need(new != etag, "it is sent again though its ETag is the same")
    return new


def user(answer: Answer, wanted: Mapping[str, Any]) -> tuple[int, str]:
    """A user with these fields; the id and the ETag."""
    found = answer.json()
    _need({name: found[name] for name in wanted} == wanted, "it is not the user as written")
    return int(found["id"]), answer.headers["etag"]


def page_of_users(answer: Answer, *, after: int, per_page: int) -> tuple[int, str]:
    """A page of a walk; the last id, and the path of the next page or nothing."""
    ids = [each["id"] for each in answer.json()["users"]]
    _need(0 < len(ids) <= per_page, "the page has too many users or none")
    _need(ids == sorted(set(ids)) and ids[0] > after, "users are not in the order of their ids, or come twice")
    _need(answer.headers["x-cache"] in ("HIT", "MISS", "BYPASS"), "X-Cache says something else")
    following = [link for link in answer.headers.get("link", "").split(", ") if link.endswith('rel="next"')]
    return ids[-1], following[0].partition("<")[2].partition(">")[0] if following else ""


def link(answer: Answer, url: str) -> str:
    """A short link to that URL; its code."""
    found = answer.json()
    _need(found["url"] == url, "the link leads elsewhere")
    _need(found["clicks"] >= 0, "it has less than no clicks")
    return str(found["code"])


def redirect(answer: Answer, url: str) -> None:
    """A redirect to that URL."""
    _need(answer.headers["location"] == url, "the link leads elsewhere")


def route(answer: Answer, *, version: str, weight: int) -> tuple[int, str]:
    """A route of that version and weight; its id and its ETag."""
    found = answer.json()
    _need((found["version"], found["weight"]) == (version, weight), "the route is not as written")
    return int(found["id"]), answer.headers["etag"]


def resolved(answer: Answer) -> str:
    """Where a service is."""
    url = str(answer.json()["url"])
    _need(url.startswith("http"), "the route leads nowhere")
    return url


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)
