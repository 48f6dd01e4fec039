"""The OpenAPI document: valid, complete, and true for every status that it names."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from chassis.testing import free_port
from chassis.testing.apps import MakeApp
from chassis.testing.contract import StatusRecorder
from chassis.testing.plugin import StartGunicorn

LINKS = "/api/v1/links"
ONE = f"{LINKS}/{{code}}"
URL = "https://example.com/"
IN_NO_TIME: dict[str, Any] = {"headers": {"X-Request-Timeout-Ms": "0"}}
statuses = StatusRecorder()
request = statuses.request

request("GET", LINKS, 200, "stocked")
request("GET", LINKS, 400, "stocked", at=f"{LINKS}?page=1")
request("POST", LINKS, 201, "stocked", json={"url": URL})
request("POST", LINKS, 400, "stocked", data="{", content_type="application/json")
request("POST", LINKS, 409, "stocked", json={"url": URL, "code": "live"})
request("POST", LINKS, 413, "stocked", data=b"x" * 70_000, content_type="application/json")
request("POST", LINKS, 415, "stocked", data=b"url", content_type="text/plain")
request("POST", LINKS, 422, "stocked", json={"url": "javascript:alert(1)"})
request("GET", ONE, 200, "stocked", at=f"{LINKS}/live")
request("PATCH", ONE, 200, "stocked", at=f"{LINKS}/live", json={"disabled": False})
request("PATCH", ONE, 400, "stocked", at=f"{LINKS}/live", data="{", content_type="application/json")
request("PATCH", ONE, 413, "stocked", at=f"{LINKS}/live", data=b"x" * 70_000, content_type="application/json")
request("PATCH", ONE, 415, "stocked", at=f"{LINKS}/live", data=b"x", content_type="text/plain")
request("PATCH", ONE, 422, "stocked", at=f"{LINKS}/live", json={})
request("DELETE", ONE, 204, "stocked", at=f"{LINKS}/spare")
OPTIONS: dict[str, Any] = {"GET": {}, "PATCH": {"json": {"disabled": True}}, "DELETE": {}}
for method, options in OPTIONS.items():
    request(method, ONE, 404, "stocked", at=f"{LINKS}/nothere", **options)
    request(method, ONE, 503, "lost", at=f"{LINKS}/live", **options)
    request(method, ONE, 504, "stocked", at=f"{LINKS}/live", **IN_NO_TIME, **options)
request("GET", LINKS, 503, "lost")
request("GET", LINKS, 504, "stocked", **IN_NO_TIME)
request("POST", LINKS, 503, "lost", json={"url": URL})
request("POST", LINKS, 504, "stocked", json={"url": URL}, **IN_NO_TIME)
for path, status in (("/s/{code}", 302), ("/qr/{code}.svg", 200), ("/qr/{code}.png", 200)):
    request("GET", path, status, "stocked", at=path.replace("{code}", "live"))
    request("GET", path, 404, "stocked", at=path.replace("{code}", "nothere"))
    request("GET", path, 410, "stocked", at=path.replace("{code}", "off"))
    request("GET", path, 503, "lost", at=path.replace("{code}", "live"))
    request("GET", path, 504, "stocked", at=path.replace("{code}", "live"), **IN_NO_TIME)
for path in ("/health", "/health/live", "/health/ready", "/metrics"):
    request("GET", path, 200, "stocked")
for path in ("/health", "/health/ready"):
    request("GET", path, 503, "lost")


@pytest.fixture
def stocked(client: Any) -> Any:
    """A client of a service with a few links."""
    for code in ("live", "off", "spare"):
        assert client.post(LINKS, json={"url": URL, "code": code}).status_code == 201
    client.patch(f"{LINKS}/off", json={"disabled": True})
    return client


@pytest.fixture
def lost(make_app: MakeApp) -> Any:
    """A client of a service whose database is not there."""
    return make_app(DB_HOST="127.0.0.1", DB_PORT=str(free_port())).test_client()


def test_every_documented_status_is_answered(stocked: Any, lost: Any) -> None:
    """Each is provoked, and comes with the media type and the id that the document says; there are no others."""
    document = stocked.get("/openapi.json").json
    validate(document)
    assert statuses.difference(document) == ([], [])
    clients = {"stocked": stocked, "lost": lost}
    faults = {
        str(case): found
        for case in statuses.cases
        if (found := statuses.faults(case, case.provoke(clients[case.fixtures[0]]), document))
    }
    assert faults == {}


@pytest.mark.slow
def test_fuzzing_finds_no_server_error(gunicorn: StartGunicorn, database_url: str, redis_url: str) -> None:
    """schemathesis tries the service against its own document, and all checks hold."""
    from chassis.testing.contract import fuzz

    service = gunicorn("links", DATABASE_URL=database_url, REDIS_URL=redis_url, DRAIN_SECONDS="0")
    fuzz(f"http://127.0.0.1:{service.port}", "--exclude-checks=positive_data_acceptance")
