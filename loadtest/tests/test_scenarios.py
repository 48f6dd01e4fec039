"""What visitors accept as an answer, how they ask, and what a run needs before it starts. Nothing here imports locust:
that would patch this process's sockets and threads.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from chassis.testing import free_port
from loadtest.endpoints import Endpoint
from loadtest.scenarios import content
from loadtest.scenarios.content import BAD, Answer, Wrong
from loadtest.target import LoadError, check_gateway, read_keys

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "loadtest" / "scenarios"


def answer(body: Any = b"", status: int = 200, **headers: str) -> Answer:
    """An answer with this body."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, sent)


CRANE = {"id": 3, "name": "Crane", "description": None, "tags": ["paper"], "price": {"amount": "1.50"}}
ADA = {"id": 7, "username": "ada", "email": "ada@load.test"}
PAGE = {"users": [{"id": 5}, {"id": 9}]}
LINK = {"code": "x4Tq9aB", "url": "https://example.com/", "clicks": 0}


def test_right_answers_are_taken() -> None:
    """Each look gives what the journey goes on with."""
    content.home(answer(b"<html><h1>Shop</h1></html>"))
    assert content.products(answer([CRANE])) == {3: "Crane"}
    content.matches(answer([CRANE]), "crane")
    assert content.product(answer(CRANE, etag='"a"'), 3) == '"a"'
    assert content.user(answer(ADA, etag='"b"'), {"username": "ada"}) == (7, '"b"')
    following = '</api/v1/users>; rel="first", </api/v1/users?after=9&per_page=2>; rel="next"'
    page = content.page_of_users(answer(PAGE, x_cache="HIT", link=following), after=4, per_page=2)
    assert page == (9, "/api/v1/users?after=9&per_page=2")
    assert content.page_of_users(answer(PAGE, x_cache="MISS"), after=4, per_page=2) == (9, "")
    assert content.link(answer(LINK), "https://example.com/") == "x4Tq9aB"
    content.redirect(answer(location="https://example.com/"), "https://example.com/")
    route = {"id": 4, "version": "canary", "weight": 10}
    assert content.route(answer(route, etag='"1"'), version="canary", weight=10) == (4, '"1"')
    assert content.resolved(answer({"url": "http://127.0.0.1:5000"})) == "http://127.0.0.1:5000"


def test_nothing_sent_again_is_right() -> None:
    """304 without a body is the answer that is wanted; a product that has changed is one too, and brings its ETag."""
    assert content.unchanged(answer(status=304, etag='"a"'), 3, '"a"') == '"a"'
    assert content.unchanged(answer(CRANE, etag='"new"'), 3, '"a"') == '"new"'


@pytest.mark.parametrize(
    "look",
    [
        lambda: content.home(answer(b"<html><h1>Sho")),
        lambda: content.products(answer([])),
        lambda: content.products(answer({"error": "no"})),
        lambda: content.products(answer(b"<html>")),
        lambda: content.matches(answer([]), "crane"),
        lambda: content.matches(answer([CRANE]), "frog"),
        lambda: content.product(answer(CRANE, etag='"a"'), 4),
        lambda: content.product(answer(CRANE), 3),
        lambda: content.product(answer(CRANE | {"price": None}, etag='"a"'), 3),
        lambda: content.unchanged(answer(b"x", status=304, etag='"a"'), 3, '"a"'),
        lambda: content.unchanged(answer(status=304, etag='"b"'), 3, '"a"'),
        lambda: content.unchanged(answer(status=304), 3, '"a"'),
        lambda: content.unchanged(answer(CRANE, etag='"a"'), 3, '"a"'),
        lambda: content.user(answer(ADA, etag='"b"'), {"username": "eve"}),
        lambda: content.page_of_users(answer(PAGE, x_cache="HIT"), after=5, per_page=2),
        lambda: content.page_of_users(answer(PAGE, x_cache="HIT"), after=4, per_page=1),
        lambda: content.page_of_users(answer(PAGE), after=4, per_page=2),
        lambda: content.page_of_users(answer({"users": []}, x_cache="HIT"), after=4, per_page=2),
        lambda: content.link(answer(LINK), "https://example.com/other"),
        lambda: content.redirect(answer(location="https://example.com/other"), "https://example.com/"),
        lambda: content.redirect(answer(), "https://example.com/"),
        lambda: content.route(answer({"id": 4, "version": "canary", "weight": 0}), version="canary", weight=10),
        lambda: content.resolved(answer({"url": ""})),
    ],
)
def test_wrong_answers_are_refused(look: Callable[[], object]) -> None:
    """A good status with something else behind it is a failure, and never stops a visitor."""
    with pytest.raises(BAD):
        look()


def test_what_is_wrong_has_no_names_in_it() -> None:
    """Texts of failures are counted like endpoints: one with an id would be another each time."""
    with pytest.raises(Wrong) as error:
        content.product(answer(CRANE | {"id": 4711}, etag='"a"'), 3)
    assert str(error.value) == "it is another product"


def test_endpoints_are_told_apart_by_method_and_name() -> None:
    """As locust does; none has an id in it."""
    assert Endpoint.PRODUCT_AGAIN.method == "GET"
    assert Endpoint.PRODUCT_AGAIN.label == "/api/products/[id] If-None-Match"
    assert len({(endpoint.method, endpoint.label) for endpoint in Endpoint}) == len(Endpoint)
    assert not [endpoint for endpoint in Endpoint if re.search(r"/\d", endpoint.label)]


def test_visitors_ask_in_one_place() -> None:
    """Only `Visitor.ask` has locust's client, and names every request by its Endpoint; each of these is asked for."""
    texts = {path.name: path.read_text() for path in SCENARIOS.glob("*.py")}
    assert [name for name, text in texts.items() if ".client" in text] == ["visitor.py"]
    assert texts["visitor.py"].count(".client") == texts["visitor.py"].count("name=endpoint.label") == 1
    asked = set(re.findall(r"Endpoint\.([A-Z_]+)", "".join(texts.values())))
    assert asked == set(Endpoint.__members__)


def test_what_judges_is_free_of_locust() -> None:
    """The gate, the shapes and the checks import no gevent, which would patch whoever imports them."""
    modules = "gate, slo, knee, shapes, histogram, endpoints, target, scenarios.content"
    code = "import sys\n" + "".join(f"import loadtest.{name}\n" for name in modules.split(", "))
    done = subprocess.run([sys.executable, "-c", f"{code}print('gevent' in sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip # noqa: E501
    assert done.stdout == "False\n"


def test_tests_are_free_of_locust() -> None:
    """locust is also a plugin of pytest, which is left out: its fixtures patch the process."""
    assert not [name for name in sys.modules if name.partition(".")[0] in ("gevent", "locust", "pytest_locust")]


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    """One a line, as many as there are; without any, the error says who makes them."""
    file = tmp_path / "keys"
    with pytest.raises(LoadError, match="keys: No such file or directory: `make run` writes it"):
        read_keys(file)
    file.write_text("\n")
    with pytest.raises(LoadError, match="is empty"):
        read_keys(file)
    file.write_text("sf_one\nsf_two\n")
    assert read_keys(file) == ["sf_one", "sf_two"]


@contextmanager
def gateway(status: int) -> Iterator[str]:
    """The address of something that answers everything with that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.headers["X-API-Key"] == "sf_key" else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_gateway_that_knows_the_key_is_ready() -> None:
    """Nothing is raised."""
    with gateway(200) as host:
        check_gateway(host, "sf_key")
        with pytest.raises(LoadError, match=r"refuses the key \(401\)"):
            check_gateway(host, "sf_other")


@pytest.mark.parametrize(("status", "complaint"), [(403, "refuses the key"), (404, "is it the gateway"), (503, "503")])
def test_what_is_no_gateway_is_named(status: int, complaint: str) -> None:
    """Before the first visitor, in one line."""
    with gateway(status) as host, pytest.raises(LoadError, match=complaint):
        check_gateway(host, "sf_key")


def test_nothing_that_answers_is_named() -> None:
    """With the verb that starts it. What is no address is not tried."""
    with pytest.raises(LoadError, match="start `make run`"):
        check_gateway(f"http://127.0.0.1:{free_port()}", "sf_key")
    with pytest.raises(LoadError, match="is no address"):
        check_gateway("127.0.0.1:8000", "sf_key")
