"""What `make observe` starts, and with which configuration. That it works as a whole is proved in tests/telemetry."""

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.__main__ import main
from stack.observe_config import localised
from stack.observe_plan import Watch, make_watch
from stack.observe_tools import EXPORTERS
from stack.plan import Plan, StackError, make_plan
from stack.state import config_directory, only_one

OBSERVABILITY = Path(__file__).parents[2] / "observability"
URLS = {
    "DATABASE_URL": "postgresql://postgres:s3cret@127.0.0.1:5/gateway",
    "REDIS_URL": "redis://:s3cret@127.0.0.1:6/0",
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for PATH with everything that Debian has."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("prometheus", "prometheus-alertmanager", *(exporter.package for exporter in EXPORTERS)):
        (directory / name).write_text("")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def plan(tmp_path: Path, programs: Path, free_ports: dict[str, str]) -> Iterator[Plan]:
    """The plan of a run that has its lock, on free ports."""
    free_ports |= {"PROMETHEUS_PORT": free_ports["GATEWAY_PORT"], "ALERTMANAGER_PORT": free_ports["USER_PORT"]}
    plan = make_plan(tmp_path / ".run", {"PATH": str(programs), **free_ports})
    with only_one(plan):
        config_directory(plan.directory, URLS)
        yield plan


def _prometheus(watch: Watch) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((watch.plan.directory / "observe" / "prometheus.json").read_text())
    return found


def test_only_discovery_is_replaced(plan: Plan) -> None:
    """Every job keeps its name, limits and relabelling, its addresses are of this machine, and the rules are those of
    Compose.
    """
    document = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
    watch = make_watch(plan, OBSERVABILITY)
    local = _prometheus(watch)
    assert {name: local[name] for name in document if name not in ("rule_files", "alerting", "scrape_configs")} == {
        name: document[name] for name in document if name not in ("rule_files", "alerting", "scrape_configs")
    }
    assert local["rule_files"] == [str(OBSERVABILITY / "prometheus" / pattern) for pattern in document["rule_files"]]
    before = {job["job_name"]: job for job in document["scrape_configs"]}
    for job in local["scrape_configs"]:
        then = before.pop(job["job_name"])
        places = ("static_configs", "dns_sd_configs", "relabel_configs")
        assert {key: job[key] for key in job if key not in places} == {k: then[k] for k in then if k not in places}
        steps = [step.get("target_label") for step in job.get("relabel_configs", [])]
        assert steps == [step.get("target_label") for step in then.get("relabel_configs", [])]
    assert sorted(before) == sorted(watch.lost)
    assert set(watch.lost) <= {"loki", "promtail", "alloy", "grafana", "kafka"}
    assert dict(watch.scraped)["links"] == [f"127.0.0.1:{plan.ports['links']}"]
    addresses = [address for _, found in watch.scraped for address in found]
    assert all(re.search(r"^(http://)?127\.0\.0\.1:\d+(/|$)", address) for address in addresses)
    managers = local["alerting"]["alertmanagers"]
    assert managers[0]["static_configs"][0]["targets"] == [watch.alertmanager_url.removeprefix("http://")]


def test_a_job_without_a_place_here_is_left_out(tmp_path: Path) -> None:
    """Also where only its relabelling leads elsewhere; what stays has its labels."""
    document = {
        "scrape_configs": [
            {"job_name": "shop", "static_configs": [{"targets": ["shop:80"], "labels": {"a": "b"}}]},
            {"job_name": "store", "dns_sd_configs": [{"names": ["store-exporter"], "port": 81}]},
            {"job_name": "gone", "dns_sd_configs": [{"names": ["gone"], "port": 82}]},
            {
                "job_name": "probe",
                "static_configs": [{"targets": ["http://shop:80/x"]}],
                "relabel_configs": [{"target_label": "__address__", "replacement": "prober:83"}],
            },
        ]
    }
    places = {"shop:80": "127.0.0.1:1", "store-exporter:81": "127.0.0.1:2"}
    local, lost = localised(document, places, directory=tmp_path)
    assert lost == ["gone", "probe"]
    shop, store = local["scrape_configs"]
    assert shop["static_configs"] == [{"targets": ["127.0.0.1:1"], "labels": {"a": "b"}}]
    assert store["static_configs"] == [{"targets": ["127.0.0.1:2"], "labels": {"instance": "store-exporter:81"}}]


def test_no_secret_is_on_a_command_line(plan: Plan) -> None:
    """Passwords reach the exporters by their environment; TLS is not asked of a server on this machine."""
    watch = make_watch(plan, OBSERVABILITY)
    assert "s3cret" not in json.dumps([command.arguments for command in watch.commands])
    assert "s3cret" not in repr(watch.commands)
    assert "s3cret" not in (plan.directory / "observe" / "prometheus.json").read_text()
    environments = {command.name: command.environment for command in watch.commands}
    assert environments["postgres"] == {"DATA_SOURCE_NAME": f"{URLS['DATABASE_URL']}?sslmode=disable"}
    assert environments["redis"] == {"REDIS_ADDR": "redis://127.0.0.1:6", "REDIS_PASSWORD": "s3cret"}


def test_an_exporter_that_is_missing_takes_its_jobs_along(plan: Plan, programs: Path) -> None:
    """And is named; the blackbox exporter's probes are jobs of their own."""
    for exporter in EXPORTERS:
        (programs / exporter.package).unlink()
    watch = make_watch(plan, OBSERVABILITY)
    assert watch.missing == [exporter.package for exporter in EXPORTERS]
    assert {"postgres", "redis", "node", "blackbox", "probe"} <= set(watch.lost)
    assert [command.name for command in watch.commands] == ["alertmanager", "prometheus"]


@pytest.mark.parametrize("program", ["prometheus", "prometheus-alertmanager"])
def test_without_prometheus_one_line_names_the_remedy(plan: Plan, programs: Path, program: str) -> None:
    """It says what is missing and how to get it."""
    (programs / program).unlink()
    with pytest.raises(StackError, match=f"^`{program}` is not installed: apt-get install prometheus "):
        make_watch(plan, OBSERVABILITY)


def test_a_taken_port_is_named(plan: Plan) -> None:
    """With the variable that moves it."""
    port = int(plan.environment["PROMETHEUS_PORT"])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StackError, match=rf"port {port} \(prometheus\) is"):
        make_watch(plan, OBSERVABILITY)


def test_without_a_run_there_is_nothing_to_observe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what to start, and the exit code is 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"PATH": os.defpath})
    assert main(["observe"]) == 1
    assert not (tmp_path / ".run").exists()
    assert re.fullmatch("stack: there is nothing to observe: start `make run` .*\n", capsys.readouterr().err)
