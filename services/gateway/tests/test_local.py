"""What the gateway answers by itself: health, status, documents, metrics, logs, and what it does not have."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from chassis.testing import wait_until

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway

StartGateway = Callable[..., "Gateway"]
OUTSIDE = {"INTERNAL_NETWORKS": "203.0.113.0/24"}


def test_liveness_touches_nothing(start_gateway: StartGateway, backend: Backend) -> None:
    """It is 200 with every service dead."""
    backend.stop()
    answer = start_gateway().ask("GET", "/health/live")
    assert (answer.status, answer.json()) == (200, {"status": "alive"})
    assert backend.connections == 0


def test_readiness_does_not_depend_on_the_services(start_gateway: StartGateway, backend: Backend) -> None:
    """A dead service is reported as degraded; a gateway that said 503 for it would take the others down with it."""
    gateway = start_gateway(WEB_CONCURRENCY="1")
    answer = gateway.ask("GET", "/health/ready")
    assert (answer.status, answer.json()["status"]) == (200, "ready")
    healthy = {"status": "healthy", "message": "user answers"}
    wait_until(lambda: gateway.ask("GET", "/health/ready").json()["checks"]["user"] == healthy)
    backend.stop()
    degraded = {"status": "degraded", "message": "user does not answer"}
    wait_until(lambda: gateway.ask("GET", "/health/ready").json()["checks"]["user"] == degraded)
    assert gateway.ask("GET", "/health/ready").status == 200
    health = gateway.ask("GET", "/health")
    assert health.status == 200
    assert health.json() == {
        "status": "degraded", "service": "gateway", "version": "1.0.0", "features": [], "database": "not_configured",
    }  # fmt: skip


def test_service_status_says_up_and_down(start_gateway: StartGateway, backend: Backend, user: Backend) -> None:
    """Section 5 of the contract; both are asked at once, so a dead one does not delay the other."""
    gateway = start_gateway(USER_URL=user.url)
    assert gateway.ask("GET", "/api/service-status").json() == {"services": {"catalogue": "up", "user": "up"}}
    backend.stop()
    expected = {"services": {"catalogue": "down", "user": "up"}}
    wait_until(lambda: gateway.ask("GET", "/api/service-status").json() == expected, timeout_s=5)
    backend.start()
    expected = {"services": {"catalogue": "up", "user": "up"}}
    wait_until(lambda: gateway.ask("GET", "/api/service-status").json() == expected, timeout_s=5)


def test_a_hung_service_is_down_within_a_second(start_gateway: StartGateway, backend: Backend, user: Backend) -> None:
    """And one that answers with an error is down as well."""
    backend.on("/health/live", lambda wire, _: wire.closed_by_peer())
    gateway = start_gateway(USER_URL=user.url)
    answer = gateway.ask("GET", "/api/service-status", {"X-Request-ID": "hung"})
    assert answer.json() == {"services": {"catalogue": "down", "user": "up"}}
    lines = wait_until(lambda: [line for line in gateway.logs if line.get("request_id") == "hung"])
    assert 900 < lines[0]["duration_ms"] < 2000
    backend.on("/health/live", lambda wire, _: wire.send(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"))
    assert gateway.ask("GET", "/api/service-status").json()["services"]["catalogue"] == "down"


def test_a_hung_service_does_not_delay_the_probes(start_gateway: StartGateway, backend: Backend) -> None:
    """A probe with a time-out of a second gets its 200 in a fraction of that."""
    backend.on("/health/live", lambda wire, _: wire.closed_by_peer())
    gateway = start_gateway()
    for target in ("/health/ready", "/health", "/health/live"):
        began_s = time.monotonic()
        assert gateway.ask("GET", target).status == 200
        assert time.monotonic() - began_s < 0.8


def test_status_is_asked_once_a_second_at_most(start_gateway: StartGateway, backend: Backend) -> None:
    """However many ask; a page that reloads is no load on the services."""
    gateway = start_gateway(WEB_CONCURRENCY="1")
    with gateway.client() as client:
        wait_until(lambda: client.ask("GET", "/api/service-status"))
        before = len(backend.seen_at("/health/live"))
        answers = [client.ask("GET", target) for target in ("/api/service-status", "/status", "/health/ready") * 20]
    assert all(answer.status == 200 for answer in answers)
    assert len(backend.seen_at("/health/live")) - before <= 2 * (1 + 1)


def test_the_index_of_documents_links_every_service(gateway: Gateway) -> None:
    """`/docs` leads to each service's pages, below the gateway."""
    page = gateway.ask("GET", "/docs").body.decode()
    for link in ("catalogue/docs", "catalogue/openapi.json", "user/docs", "user/openapi.json"):
        assert f'href="{link}"' in page
        assert gateway.ask("GET", f"/{link}").status == 200
    assert 'href="links/docs"' in page


@pytest.mark.parametrize("target", ["/metrics", "/status"])
def test_what_is_internal_is_not_there_for_others(start_gateway: StartGateway, target: str) -> None:
    """404, like any address that is not there, whatever the request claims about where it comes from."""
    gateway = start_gateway(**OUTSIDE, TRUSTED_PROXIES="127.0.0.1")
    answer = gateway.ask("GET", target, {"X-Forwarded-For": "203.0.113.5", "X-Real-IP": "203.0.113.5"})
    assert (answer.status, answer.json()["detail"]) == (404, gateway.ask("GET", "/nowhere").json()["detail"])


def test_readiness_for_others_is_its_status_alone(start_gateway: StartGateway) -> None:
    """A load balancer outside needs no details."""
    gateway = start_gateway(**OUTSIDE)
    answer = gateway.ask("GET", "/health/ready")
    assert (answer.status, answer.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize(
    "target", ["/nowhere", "/api/productsX", "/api/v1/usersX", "/health/", "/metrics/x", "//", "/%ff"]
)
def test_an_unknown_path_is_404(gateway: Gateway, target: str) -> None:
    """A problem document; the path itself is nowhere in it."""
    answer = gateway.ask("GET", target)
    assert (answer.status, answer.get("content-type")) == (404, "application/problem+json")
    assert answer.json()["title"] == "Not Found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_gateways_own_addresses_are_read_only(gateway: Gateway, method: str) -> None:
    """405 with `Allow`, also for a request with a body, whose connection then goes on."""
    with gateway.client() as client:
        answer = client.ask(method, "/health/live", body=b"{}")
        assert (answer.status, answer.get("allow")) == (405, "GET, HEAD")


def test_head_of_our_own_pages_has_a_length_and_no_body(gateway: Gateway) -> None:
    """The same head as GET's."""
    with gateway.client() as client:
        answer = client.ask("HEAD", "/docs")
        assert int(answer.get("content-length") or "0") > 100
        assert client.ask("GET", "/health/live").status == 200


def test_requests_are_counted_by_route_over_both_workers(start_gateway: StartGateway) -> None:
    """Every worker's requests in one total, whichever of them answers the scrape; routes, never paths, are labels."""
    gateway = start_gateway()
    for number in range(40):
        assert gateway.ask("GET", f"/api/products/{number}").status == 200
        assert gateway.ask("GET", f"/nowhere/{number}").status == 404
    gateway.ask("POST", "/api/v1/users", body=b"{}")
    gateway.ask("BREW", "/")
    count = "gateway_http_requests_total"
    gateway.wait_metric(f'{count}{{endpoint="products",method="GET",status="200"}}', 40)
    gateway.wait_metric(f'{count}{{endpoint="unmatched",method="GET",status="404"}}', 40)
    gateway.wait_metric(f'{count}{{endpoint="users",method="POST",status="200"}}', 1)
    gateway.wait_metric(f'{count}{{endpoint="home",method="OTHER",status="200"}}', 1)
    gateway.wait_metric('gateway_http_request_duration_seconds_count{endpoint="products",method="GET"}', 40)
    gateway.wait_metric('gateway_upstream_requests_total{outcome="answered",upstream="catalogue"}', 41)
    assert len({line["path"] for line in gateway.logs if line.get("route") == "products"}) == 40


def test_pools_are_reported(start_gateway: StartGateway, backend: Backend) -> None:
    """Requests in flight and connections by state, refreshed every second."""
    backend.on("/api/products/hang", lambda wire, _: wire.closed_by_peer())
    gateway = start_gateway(WEB_CONCURRENCY="1")
    gateway.ask("GET", "/api/products")
    connections = "gateway_upstream_connections"
    gateway.wait_metric(f'{connections}{{state="idle",upstream="catalogue"}}', 1)
    with gateway.client() as client:
        client.wire.send(b"GET /api/products/hang HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.wait_metric('gateway_upstream_in_flight{upstream="catalogue"}', 1)
        gateway.wait_metric(f'{connections}{{state="in_use",upstream="catalogue"}}', 1)
    gateway.wait_metric('gateway_upstream_in_flight{upstream="catalogue"}', 0)


def test_what_every_service_reports(gateway: Gateway) -> None:
    """Section 2 of the contract: process metrics with many workers, build_info, uptime, errors by type."""
    gateway.ask("GET", "/api/products/slow", {"X-Request-Timeout-Ms": "0"})
    text = gateway.ask("GET", "/metrics").body.decode()
    for name in (
        "process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes",
        "process_open_fds", "process_max_fds", "process_start_time_seconds", "app_uptime_seconds", "build_info",
        "app_errors_total",
    ):  # fmt: skip
        assert f"\n{name}" in f"\n{text}", name


def test_the_first_event_has_an_increase(start_gateway: StartGateway) -> None:
    """Of the storefront's own routes and services, what alerts count is there as 0 before it happens."""
    text = start_gateway().ask("GET", "/metrics").body.decode()  # one to which nothing has happened
    for name in (
        'gateway_http_requests_total{endpoint="products",method="GET",status="503"}',
        'gateway_http_requests_total{endpoint="users",method="POST",status="500"}',
        'gateway_http_requests_total{endpoint="tenant",method="GET",status="504"}',
        'gateway_http_requests_total{endpoint="change_route",method="PATCH",status="503"}',
        'api_requests_total{endpoint="resolve",method="GET",status_code="500"}',
        'api_requests_total{endpoint="service_status",method="GET",status_code="503"}',
        'gateway_auth_failures_total{reason="scope"}',
        'gateway_rate_limited_total{endpoint="products",who="address"}',
        'gateway_shed_total{upstream="catalogue"}',
        'gateway_retries_total{outcome="over_budget",upstream="user"}',
        'gateway_upstream_requests_total{outcome="timeout",upstream="user"}',
        'app_errors_total{service="gateway",type="unavailable"}',
    ):
        assert f"\n{name} 0.0\n" in text, name
    assert 'endpoint="links"' not in text  # there is no such service here
    assert 'endpoint="health_ready"' not in text


def test_a_request_is_one_json_line(gateway: Gateway, path: str) -> None:
    """With the contract's fields and nothing of the query."""
    answer = gateway.ask("GET", f"{path}?email=someone@example.org", {"X-Request-ID": "line"})
    line: dict[str, Any] = gateway.wait_log(f"GET {path}")
    expected = {
        "level": "INFO", "message": f'"GET {path} HTTP/1.1" 200', "service": "gateway", "version": "1.0.0",
        "method": "GET", "path": path, "route": "products", "status": answer.status, "remote_addr": "127.0.0.1",
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert line["request_id"] == "line"
    assert line["duration_ms"] > 0
    assert line["timestamp"].endswith("+00:00")
    assert len(line["trace_id"]) == 32
    assert "someone" not in json.dumps(line)


def test_probes_are_not_in_the_log(gateway: Gateway) -> None:
    """They come every few seconds for ever: DEBUG."""
    gateway.ask("GET", "/health/live", {"X-Request-ID": "probe"})
    gateway.ask("GET", "/metrics", {"X-Request-ID": "probe"})
    gateway.ask("GET", "/nowhere", {"X-Request-ID": "after-the-probes"})
    wait_until(lambda: [line for line in gateway.logs if line.get("request_id") == "after-the-probes"])
    assert not [line for line in gateway.logs if line.get("request_id") == "probe"]


def test_no_service_detail_is_told(start_gateway: StartGateway, backend: Backend) -> None:
    """Neither address nor port nor exception of a dead service is in an answer."""
    backend.stop()
    answer = start_gateway().ask("GET", "/api/products")
    text = answer.body.decode()
    assert str(backend.port) not in text
    assert "Errno" not in text
    assert "127.0.0.1" not in text


def test_default_internal_networks_are_private() -> None:
    """Loopback and private ranges, both families; no link-local one, where clouds keep their metadata."""
    from gateway.settings import PRIVATE_NETWORKS

    assert all(ipaddress.ip_network(text).is_private for text in PRIVATE_NETWORKS)
    assert not any(ipaddress.ip_network(text).is_link_local for text in PRIVATE_NETWORKS)
