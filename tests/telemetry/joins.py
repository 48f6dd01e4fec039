"""Log lines: one request is one line at the gateway and one in the service, and both have its ids."""

import json
import re
import secrets
from typing import Any

from chassis.testing import wait_until
from tests.telemetry.stage import Stage
from tests.telemetry.traffic import ask

FIELDS = {"timestamp", "level", "logger", "message", "service", "version", "request_id", "trace_id"}
REQUEST_FIELDS = FIELDS | {"method", "path", "route", "status", "duration_ms", "remote_addr"}

JOINED = (
    ("user", "/api/v1/users/1"),
    ("catalogue", "/api/products?q=joined"),
    ("links", "/api/v1/links"),
    ("links", "/s/poster"),  # in Redis, so ahead of Flask
)

SEED_FILTERS = {
    ("catalogue", "ERROR"),
    ("catalogue", "Database error"),
    ("catalogue", "Falling back to JSON"),
    ("catalogue", "Using database as data source"),
    ("catalogue", "(GET|POST).*/api/"),
    ("catalogue", "GET.*200"),
    ("user", '" 500'),
}
"""(service, what operators have filtered its lines by for years)."""


def check_ids(stage: Stage) -> list[str]:
    """The client's request id and trace are in both lines; without the client's both have the same new trace."""
    wrong = []
    for service, path in JOINED:
        for trace in (secrets.token_hex(16), None):
            request_id = f"joined-{secrets.token_hex(4)}"
            headers = {"X_Request_ID": request_id, "X_API_Key": stage.admin_key, "Cache_Control": "no-cache"}
            if trace is not None:
                headers["traceparent"] = f"00-{trace}-{secrets.token_hex(8)}-01"
            assert ask(stage, path, **headers).status in (200, 302)
            gateway, behind = (_lines_of(stage, name, request_id) for name in ("gateway", service))
            if [len(gateway), len(behind)] != [1, 1]:
                wrong.append(f"{path}: {len(gateway)} lines of the gateway, {len(behind)} of {service}")
            elif gateway[0]["trace_id"] != behind[0]["trace_id"] or trace not in (None, behind[0]["trace_id"]):
                wrong.append(f"{path}: {trace} became {gateway[0]['trace_id']} and {behind[0]['trace_id']}")
            elif REQUEST_FIELDS - set(behind[0]) or REQUEST_FIELDS - set(gateway[0]):
                wrong.append(f"{path}: fields are missing in {sorted(behind[0])} or {sorted(gateway[0])}")
            elif gateway[0]["duration_ms"] < behind[0]["duration_ms"]:
                wrong.append(f"{path}: the gateway took less time than the service behind it")
    return wrong


def check_trace(stage: Stage) -> list[str]:
    """A service gets the client's trace with a new parent, and the client's request id."""
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    traceparent = f"00-{trace}-{parent}-01"
    answer = ask(
        stage, "/t/team-a/shop/joined", X_API_Key=stage.admin_key, X_Request_ID="joined", traceparent=traceparent
    )
    assert (answer.status, answer.headers["X-Request-ID"]) == (200, "joined")
    got = stage.upstream.seen["/joined"]
    if not re.fullmatch(rf"00-{trace}-(?!{parent})[0-9a-f]{{16}}-01", got["traceparent"]):
        return [f"{traceparent} became {got['traceparent']}"]
    return [] if got["x-request-id"] == "joined" else [f"the request id became {got['x-request-id']}"]


def check_lines(stage: Stage) -> list[str]:
    """Every line is an object with every field, none has what is secret, and the old filters find something."""
    wrong = []
    secret = re.compile(rf"{re.escape(stage.admin_key)}|sf_\w{{10}}|[\w.]+@example\.org")
    lines = {service: stage.lines(service) for service in ("gateway", "catalogue", "user", "links")}
    for service, found in lines.items():
        wrong += [f"{service}: {line}" for line in found if not set(line) >= FIELDS or secret.search(str(line))]
    for service, pattern in SEED_FILTERS:
        if not any(re.search(pattern, json.dumps(line)) for line in lines[service]):
            wrong.append(f"{service}: no line has {pattern}")
    return wrong


def _lines_of(stage: Stage, service: str, request_id: str) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        return [line for line in stage.lines(service) if line["request_id"] == request_id and "status" in line]

    wait_until(found, what=f"{request_id} in the log of {service}")
    return found()
