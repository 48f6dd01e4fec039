"""The page `/docs`, as a server sends it and as a browser draws it."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from flask import Flask, Response
from werkzeug.serving import make_server

from chassis import docs_page
from chassis.testing.browser import draw

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = "/t/shop/catalogue"
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "lamp <shop>", "version": "1.2.3"},
    "servers": [{"url": "."}],
    "paths": {
        "/api/lamps/{lamp_id}": {
            "get": {
                "tags": ["lamps"],
                "summary": "Get one lamp",
                "parameters": [{"name": "lamp_id", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {"200": {"description": "The lamp"}},
            }
        },
        "/api/lamps": {
            "post": {
                "tags": ["lamps"],
                "summary": "Add a lamp",
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Lamp"}}},
                },
                "responses": {"201": {"description": "Added"}},
            }
        },
    },
    "components": {
        "schemas": {"Lamp": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}},
    },
}


def strip_prefix(application: "WSGIApplication") -> "WSGIApplication":
    """What a gateway does: the service sees the path without the prefix and is told nothing of it."""

    def stripped(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(PREFIX)
        return application(environ, start_response)

    return stripped


@pytest.fixture
def base_url() -> Iterator[str]:
    """The address of a running service whose only content is its documents; it also answers under PREFIX."""
    app = Flask("lamps")
    docs_page.init_app(app, lambda: DOCUMENT)
    app.add_url_rule("/openapi.json", "openapi", lambda: Response(json.dumps(DOCUMENT), mimetype="application/json"))
    server = make_server("127.0.0.1", 0, strip_prefix(app), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str) -> tuple[Any, bytes]:
    """The headers and the body of a 200."""
    with urlopen(url, timeout=10) as answer:
        assert answer.status == 200
        return answer.headers, answer.read()


def references(page: str) -> list[str]:
    """Everything that a page makes a browser fetch, and its links."""
    return re.findall(r'(?:src|href|action)="([^"]*)"', page)


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_every_reference_is_relative_and_answers(base_url: str, prefix: str) -> None:
    """The page names no other host and no absolute path, and what it names is there, under a prefix too."""
    headers, body = get(f"{base_url}{prefix}/docs")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    found = [reference for reference in references(body.decode()) if reference != "data:,"]
    assert len(found) >= 5
    for reference in found:
        assert not re.match(r"[a-z]+:|/", reference), reference
        get(f"{base_url}{prefix}/{reference}")


def test_the_title_is_escaped(base_url: str) -> None:
    """What the document says of itself is text, never markup."""
    _, body = get(f"{base_url}/docs")
    assert b"lamp &lt;shop&gt; 1.2.3" in body
    assert b"<shop>" not in body


@pytest.mark.parametrize("path", ["/docs", "/docs/assets/docs.js", "/docs/assets/swagger-ui-bundle.js"])
def test_no_other_origin_is_allowed(base_url: str, path: str) -> None:
    """The policy lets the browser load from this service alone, and runs no inline script or style."""
    headers, _ = get(base_url + path)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"https?:|\*|unsafe", policy)
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2fplugins.py", "%2e%2e", "docs.html"])
def test_only_the_page_s_own_files_are_served(base_url: str, name: str) -> None:
    """Another name under the assets is 404, whatever lies on the disk."""
    with pytest.raises(HTTPError) as error:
        get(f"{base_url}/docs/assets/{name}")
    assert error.value.code == 404
    error.value.close()


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_browser_without_the_internet_draws_the_operations(base_url: str, prefix: str, tmp_path: Path) -> None:
    """Operations, schemas and the right server address appear, and the policy blocks nothing that the page needs."""
    page, log = draw(f"{base_url}{prefix}/docs", tmp_path)
    for operation in ("Get one lamp", "Add a lamp"):
        assert operation in page
    assert 'data-path="/api/lamps/{lamp_id}"' in page
    assert re.search(r">Lamp<", page)
    assert "OAS 3.1" in page
    assert f"{base_url}{prefix}</option>" in page
    assert not re.search(r"Content Security Policy|Uncaught|ERR_NAME_NOT_RESOLVED", log)
    assert not [url for url in references(page) if re.match(r"https?:", url) and not url.startswith(base_url)]
