"""The configuration in a real Prometheus, with local targets."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from chassis.testing import free_port, require, wait_until
from stack.observe_config import localised
from tests.observability.notified import World, running, serving
from tests.observability.promtool import PROMETHEUS, rule_files

pytestmark = pytest.mark.rules

SERVICES = {"gateway": 8000, "catalogue": 5000, "user": 5001, "links": 5002}


@dataclass
class Service(World):
    """What a service says of itself, a little of it: more at each scrape. Without a name: what exporters say."""

    name: str = ""
    scrapes: int = 0

    def metrics(self) -> str:
        """The text of /metrics."""
        if not self.name:
            return "pg_up 1\nredis_up 1\nprobe_success 1\n"
        self.scrapes += 1
        lines = []
        for endpoint in ("home", "health_live"):
            of = f'method="GET",endpoint="{endpoint}"'
            lines += [
                f'{self.name}_http_requests_total{{{of},status="{status}"}} {number * self.scrapes}'
                for status, number in ((200, 8), (404, 1), (500, 1))
            ]
            lines += [
                f'{self.name}_http_request_duration_seconds_bucket{{{of},le="{le}"}} {number * self.scrapes}'
                for le, number in (("0.1", 4), ("0.3", 8), ("1.0", 10), ("+Inf", 10))
            ]
        if self.name == "gateway":
            lines.append('gateway_route_requests_total{service="catalogue",tenant="storefront",code="2xx"} 1')
            lines += [f'gateway_breaker_open{{upstream="user",instance="10.0.0.{number}:5001"}} 0' for number in (1, 2)]
        return "\n".join(lines) + "\n"


class Running(NamedTuple):
    """A Prometheus: its address, and where its alerts go."""

    url: str
    world: World

    def get(self, path: str, **query: str) -> Any:
        """What the API answers under `data`."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that is loaded, with what came of it."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Every target."""
        found: list[dict[str, Any]] = self.get("targets")["activeTargets"]
        return found


class Places(dict[str, str]):
    """Places of addresses, with one for all that are not named."""

    def __init__(self, default: str, places: dict[str, str]) -> None:
        super().__init__(places)
        self._default = default

    def __missing__(self, address: str) -> str:
        return self._default


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Prometheus with this configuration in a hurry: what happens every 15 s to 2 min happens every second."""
    binary, directory, url = require("prometheus"), tmp_path_factory.mktemp("rules"), f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        listening = {
            f"{name}:{port}": stack.enter_context(serving(Service(name=name))).removeprefix("http://")
            for name, port in SERVICES.items()
        }
        others = Service()
        other = stack.enter_context(serving(others)).removeprefix("http://")
        config = _configured(Places(other, {"localhost:9090": url, **listening}), directory)
        command = [binary, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
        command += [f"--web.listen-address={url}", "--rules.alert.resend-delay=1s"]
        stack.enter_context(running("prometheus", command, f"http://{url}/-/ready", directory))
        started = Running(f"http://{url}", others)
        wait_until(lambda: _evaluated(started), timeout_s=60, interval_s=0.2, what="every rule has had its turn")
        yield started


def test_every_rule_is_evaluated_without_an_error(prometheus: Running) -> None:
    """With series behind every job, no rule meets labels that it cannot match."""
    rules = prometheus.rules()
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in rule_files()]
    assert len(rules) == sum(len(group["rules"]) for document in documents for group in document["groups"])


def test_every_target_is_scraped(prometheus: Running) -> None:
    """Each job of the configuration has a target that passes its limits; services have the labels that rules go by."""
    targets = prometheus.targets()
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert {target["labels"]["job"] for target in targets} == {job["job_name"] for job in configured}
    assert [target["lastError"] for target in targets if target["health"] != "up"] == []
    for name in SERVICES:
        (target,) = (target for target in targets if target["labels"]["job"] == name)
        assert target["labels"].items() >= {"service": name, "app": name}.items()


def test_probes_keep_the_address_that_is_tried(prometheus: Running) -> None:
    """The exporter is asked for an address and a module; `instance` is the address, not the exporter."""
    targets = [target for target in prometheus.targets() if target["labels"]["job"] == "probe"]
    asked = [urllib.parse.parse_qs(urllib.parse.urlsplit(target["scrapeUrl"]).query) for target in targets]
    assert {query["module"][0] for query in asked} == {"shopper", "ready"}
    assert [query["target"] for query in asked] == [[target["labels"]["instance"]] for target in targets]


def test_a_services_own_labels_do_not_win(prometheus: Running) -> None:
    """What the gateway calls `service` arrives under another name."""
    (found,) = prometheus.get("query", query="gateway_route_requests_total")["result"]
    assert found["metric"].items() >= {"service": "gateway", "exported_service": "catalogue"}.items()


def test_alerts_leave_without_what_their_links_are_made_of(prometheus: Running) -> None:
    """An alert has links that lead somewhere; where Grafana is does not become one of its labels."""
    watchdog = wait_until(lambda: _sent(prometheus, "Watchdog"), what="an alert")
    assert watchdog["labels"] == {"alertname": "Watchdog", "severity": "none", "environment": "compose"}
    assert watchdog["annotations"]["runbook_url"] == "http://localhost:3000/d/storefront-runbook#watchdog"
    assert watchdog["annotations"]["dashboard_url"].startswith("http://localhost:3000/d/storefront-")


def _sent(prometheus: Running, name: str) -> dict[str, Any]:
    """The first alert of this name that has left; empty if there is none yet."""
    batches: list[Any] = [body for _, body in prometheus.world.sent]
    return next((alert for batch in batches for alert in batch if alert["labels"]["alertname"] == name), {})


def _configured(places: Places, directory: Path) -> Path:
    """Write the configuration and its rules with other addresses, and a second in the place of every interval."""
    for path in rule_files():
        (directory / path.parent.name).mkdir(exist_ok=True)
        text = re.sub(r"^(    interval: ).*$", r"\g<1>1s", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (directory / path.parent.name / path.name).write_text(text, encoding="utf-8")
    document = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    for settings in (document["global"], *document["scrape_configs"]):
        settings |= {name: "1s" for name in settings if name.endswith(("_interval", "_timeout"))}
    config, lost = localised(document, places, directory=directory)
    assert lost == []
    (directory / "prometheus.json").write_text(json.dumps(config), encoding="utf-8")
    return directory / "prometheus.json"


def _evaluated(prometheus: Running) -> bool:
    """Whether all is scraped, every rule has had its turn, and the rules know of the services."""
    return (
        all(target["health"] != "unknown" for target in prometheus.targets())
        and all(rule["health"] != "unknown" for rule in prometheus.rules())
        and len(prometheus.get("query", query="service:http_errors:ratio_rate5m")["result"]) == len(SERVICES)
    )
