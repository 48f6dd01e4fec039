"""Requests to a running service, each on a connection of its own."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from email.message import Message
from typing import Any, NamedTuple

from chassis.testing.gunicorn import GunicornProcess


class Answer(NamedTuple):
    """Status, headers, body (parsed if it is JSON, else text) and seconds of one request."""

    status: int
    headers: Message
    body: Any
    took_s: float


def call(
    service: GunicornProcess,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """Send one request, with `body` as JSON unless it is None. Raises OSError or http.client.HTTPException."""
    sent = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
    began_s = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=timeout_s)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = connection.getresponse()
        data = response.read()
    took_s = time.monotonic() - began_s
    is_json = response.headers.get_content_subtype().endswith("json")
    return Answer(response.status, response.headers, json.loads(data) if is_json and data else data.decode(), took_s)


def metric(service: GunicornProcess, name: str) -> float:
    """The value of a metric now, its labels in `name`; 0 if it was never counted."""
    lines = str(call(service, "GET", "/metrics").body).splitlines()
    return float(next((line for line in lines if line.startswith(f"{name} ")), "0").rpartition(" ")[2])
