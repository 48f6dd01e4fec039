"""The page for people, as a browser without JavaScript uses it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

LINKS = "/api/v1/links"
URL = "https://example.com/a?b=c&d=<e>"


class Parsed(HTMLParser):
    """The elements of a page: (name, attributes), and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of that name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def by_id(self, name: str) -> dict[str, str | None]:
        """The attributes of the one element with that id."""
        (found,) = [attributes for _, attributes in self.elements if attributes.get("id") == name]
        return found


def test_a_form_without_javascript(client: Any) -> None:
    """What the form sends makes a link and leads to a page with it, its QR code, and where it goes."""
    page = Parsed(client.get("/").text)
    (form,) = page.all("form")
    assert (form["method"], form["action"]) == ("post", "/links")
    assert {field["name"] for field in page.all("input")} == {"url", "code", "key"}
    sent = client.post("/links", data={"url": f" {URL} ", "code": "", "days": "7", "key": "x"})
    assert sent.status_code == 303
    made = client.get(sent.headers["Location"])
    assert made.status_code == 200
    page = Parsed(made.text)
    short_url = page.by_id("short")["href"] or ""
    code = short_url.rpartition("/")[2]
    assert page.all("img") == [
        {"src": f"/qr/{code}.svg", "alt": f"QR code of {short_url}", "width": "256", "height": "256"}
    ]
    assert "https://example.com/a?b=c&d=%3Ce%3E" in page.text
    assert client.get(f"/qr/{code}.svg").status_code == 200
    link = client.get(f"{LINKS}/{code}").json
    assert link["clicks"] == 0
    assert link["expires_at"] is not None
    assert [button.get("data-copy") for button in page.all("button")] == [short_url, None]


def test_it_can_be_used_by_keyboard_and_ear(client: Any) -> None:
    """Every field has a label and a hint; one that is wrong says so, and the page says it first."""
    answer = client.post("/links", data={"url": "ftp://x", "code": "admin", "days": "1"})
    wrong = Parsed(answer.text)
    for page in (Parsed(client.get("/links").text), wrong):
        assert page.all("html")[0]["lang"] == "en"
        assert len(page.all("h1")) == 1
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        labels = {label["for"] for label in page.all("label")}
        for field in page.all("input") + page.all("select"):
            assert field["id"] in labels
            assert set((field.get("aria-describedby") or "").split()) <= set(ids)
    assert answer.status_code == 422
    assert wrong.by_id("url")["aria-invalid"] == "true"
    assert "url-error" in (wrong.by_id("url")["aria-describedby"] or "")
    assert wrong.by_id("code")["value"] == "admin"
    assert "aria-invalid" not in wrong.by_id("key")
    assert any(attributes.get("role") == "alert" for _, attributes in wrong.elements)
    assert "Error" in wrong.text.partition("Short links")[0]


def test_refusals_show_the_form_again(client: Any) -> None:
    """Without a good key, with a taken code: status and text say so, what was typed is there, the key is not."""
    client.post(LINKS, json={"url": URL, "code": "taken"})
    form = {"url": URL, "code": "taken", "key": "sf_secret"}
    for headers, status, text in (
        ({}, 409, "is taken"),
        ({"X-Caller-Refused": "401"}, 401, "is not valid"),
        ({"X-Caller-Refused": "403"}, 403, "links:write"),
    ):
        answer = client.post("/links", data=form, headers=headers)
        assert (answer.status_code, answer.mimetype) == (status, "text/html")
        assert text in answer.text
        assert Parsed(answer.text).by_id("url")["value"] == URL
        assert "sf_secret" not in answer.text
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert len(client.get(LINKS).json["links"]) == 1


def test_nothing_foreign_runs_on_the_page(client: Any) -> None:
    """Its policy lets in nothing but its own style, script and pictures, and what is typed is text."""
    attack = '"><script>alert(1)</script>'
    answer = client.post("/links", data={"url": attack, "code": attack, "days": attack})
    assert "<script>alert" not in answer.text
    for page in (answer, client.get("/"), client.get(f"/?made={attack}"), client.get("/links?made=nothere")):
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["Cache-Control"] == "no-store"
        for attribute in re.findall(r'(?:src|href)="([^"]*)"', page.text):
            assert attribute.startswith("/")
            file = client.get(attribute)
            assert file.status_code == 200
    assert client.get("/links/static/nothere.css").status_code == 404
    assert client.get("/links/static/..%2fpage.html").status_code == 404
