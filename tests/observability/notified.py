"""A real Prometheus and Alertmanager with this tree's configuration, in front of receivers that remember."""

import json
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.children import signal_group, spawn
from chassis.testing import free_port, require, wait_until

ROOT = Path(__file__).parents[2]
ALERTMANAGER = ROOT / "observability" / "alertmanager"
PROMETHEUS = ROOT / "observability" / "prometheus"
AT_ONCE = "500ms"


def every_alert() -> list[dict[str, Any]]:
    """The alerting rules of this tree."""
    files = sorted((PROMETHEUS / "alerts").glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@dataclass
class World:
    """What Prometheus scrapes, and what Alertmanager has sent, by receiver and in order."""

    switches: dict[str, bool] = field(default_factory=dict)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def metrics(self) -> str:
        """Each switch as a sample: the name of an alert and whether it is on."""
        return "".join(f'switch{{alert="{name}"}} {int(on)}\n' for name, on in self.switches.items())

    def notified(self, receiver: str, alert: str) -> list[dict[str, Any]]:
        """The webhook's payloads that this receiver got of this alert."""
        return [body for to, body in self.sent if to == f"/{receiver}" and body["groupLabels"]["alertname"] == alert]

    def posts(self, receiver: str) -> list[dict[str, Any]]:
        """What was posted to the receiver's channel."""
        return [body for to, body in self.sent if to == f"/{receiver}/channel"]


@contextmanager
def serving(world: World) -> Iterator[str]:
    """`world` as an HTTP server; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(world.metrics().encode(), "text/plain; version=0.0.4")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            world.sent.append((self.path, json.loads(body)))
            self._answer(b"ok", "text/plain")

        def _answer(self, body: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def alertmanager_config(url: str, directory: Path) -> Path:
    """This tree's configuration with receivers at `url`, a webhook and a channel each, and without its waits."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text("utf-8"))
    for route in [config["route"], *config["route"]["routes"]]:
        route.update({key: AT_ONCE for key in ("group_wait", "group_interval") if key in route})
    for route in config["route"]["routes"]:
        if route["receiver"] == "heartbeat":
            route["repeat_interval"] = AT_ONCE
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{url}/{receiver['name']}"}]
        slack = {"api_url": f"{url}/{receiver['name']}/channel", "channel": "#storefront", "send_resolved": True}
        texts = {key: f'{{{{ template "storefront.{key}" . }}}}' for key in ("title", "text")}
        receiver["slack_configs"] = [{**slack, **texts, "title_link": '{{ template "storefront.link" . }}'}]
    shutil.copytree(ALERTMANAGER / "templates", directory / "templates")
    return _write(directory / "alertmanager.yml", config)


def prometheus_config(url: str, alertmanager_port: int, alerts: list[str], directory: Path) -> Path:
    """This tree's labels and alerts, as they are but for expression and time: each fires while its switch is on."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    chosen = [rule for rule in every_alert() if rule["alert"] in alerts]
    rules = [{**rule, "expr": _switch(rule["alert"])} for rule in chosen]
    for rule in rules:
        rule.pop("for", None)
    _write(directory / "rules.yml", {"groups": [{"name": "alerts", "interval": AT_ONCE, "rules": rules}]})
    manager = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}
    target = {"targets": [url.removeprefix("http://")]}
    return _write(
        directory / "prometheus.yml",
        {
            "global": {**config["global"], "scrape_interval": AT_ONCE, "scrape_timeout": AT_ONCE},
            "rule_files": ["rules.yml"],
            "alerting": {**config["alerting"], "alertmanagers": [manager]},
            "scrape_configs": [{"job_name": "switches", "static_configs": [target]}],
        },
    )


def _switch(alert: str) -> str:
    if alert == "Watchdog":
        return "vector(1)"
    return f'label_replace(switch{{alert="{alert}"}} == 1, "service", "user", "", "")'


def _write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    return path


def alertmanager_tool() -> str:
    """The path of Alertmanager, which Debian calls prometheus-alertmanager."""
    return shutil.which("alertmanager") or require("prometheus-alertmanager")


@contextmanager
def running(
    name: str, command: list[str], ready: str, directory: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server that answers at `ready`, ended when the block is left. Its environment is a path, and `env`."""
    with (directory / f"{name}.log").open("wb") as log:
        process = spawn(command, env={"PATH": "/usr/bin:/bin", **(env or {})}, cwd=directory, stdout=log)
    try:
        wait_until(lambda: _answers(process, ready, directory / f"{name}.log"), timeout_s=30, what=f"{name} is ready")
        yield
    finally:
        signal_group(process, signal.SIGKILL)
        process.wait()


def _answers(process: "subprocess.Popen[bytes]", url: str, log: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"it has ended: {log.read_text('utf-8')[-2000:]}", pytrace=False)
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def alerts_at(alertmanager_url: str) -> dict[str, dict[str, Any]]:
    """What Alertmanager has, by name."""
    with urllib.request.urlopen(f"{alertmanager_url}/api/v2/alerts", timeout=5) as answer:
        return {alert["labels"]["alertname"]: alert for alert in json.load(answer)}


@contextmanager
def watched(directory: Path, alerts: list[str]) -> Iterator[tuple[World, str]]:
    """Both servers with these alerts: the world that they see and talk to, and Alertmanager's URL."""
    alertmanager, prometheus = alertmanager_tool(), require("prometheus")
    world = World(dict.fromkeys(alerts, False))
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with serving(world) as url:
        commands = [
            [
                alertmanager,
                f"--config.file={alertmanager_config(url, directory)}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{ports[0]}",
                "--cluster.listen-address=",
            ],
            [
                prometheus,
                f"--config.file={prometheus_config(url, ports[0], alerts, directory)}",
                f"--storage.tsdb.path={directory / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{ports[1]}",
                "--rules.alert.resend-delay=1s",
            ],
        ]
        with (
            running("alertmanager", commands[0], f"{urls[0]}/-/ready", directory),
            running("prometheus", commands[1], f"{urls[1]}/-/ready", directory),
        ):
            yield world, urls[0]
