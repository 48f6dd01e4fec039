"""Prometheus' configuration and rules, with Prometheus' own tools."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import stack.plan
from chassis.testing import require
from observability.grafana.generator import services
from tests.observability.promtool import PROMETHEUS, promtool, rule_files, unit_tests

pytestmark = pytest.mark.rules

_META = "__meta_kubernetes_"


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("path", rule_files(), ids=_name)
def test_rules_are_valid(path: Path) -> None:
    """promtool accepts every file of rules, and none has the same rule twice."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.parametrize("path", unit_tests(), ids=_name)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """Alerts stay silent, fire and survive a counter reset; recording rules give the values that are written down."""
    promtool("test", "rules", path)


def test_every_file_of_rules_is_loaded() -> None:
    """Both configurations load every file of rules."""
    for name in ("prometheus.yml", "kubernetes.yml"):
        patterns = _read(PROMETHEUS / name)["rule_files"]
        assert {path for pattern in patterns for path in PROMETHEUS.glob(pattern)} == set(rule_files()), name


def test_no_service_is_forgotten() -> None:
    """Where several services are named, they are all, or all with a cache, or else another place has the others."""
    names = {service.name for service in stack.plan.SERVICES}
    cached = {service.name for service in services.SERVICES if service.cache}
    assert names == {service.name for service in services.SERVICES}
    assert names <= {job["job_name"] for job in _read(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    files = [*PROMETHEUS.glob("*.yml"), *rule_files(), PROMETHEUS.parent / "runbook.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    lists = [set(found.split("|")) for found in re.findall(r"[a-z]+(?:\|[a-z]+)+", text)]
    several = [found for found in lists if found & names]
    assert names in several
    assert [found for found in several if found not in (names, cached) and names - found not in several] == []
    assert names <= set(re.findall(r'absent\(up\{job="(\w+)"\}\)', text))
    rules = _read(PROMETHEUS.parent / "alertmanager" / "alertmanager.yml")["inhibit_rules"]
    assert set(re.findall(r'upstream="(\w+)"', str(rules))) == names - {"gateway"}


def test_configuration_for_compose_is_valid() -> None:
    """Prometheus loads the configuration with all its rules; no rule is there twice."""
    promtool("check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


def test_configuration_for_kubernetes_is_valid(tmp_path: Path) -> None:
    """Prometheus loads the configuration.

    Debian's is built without Kubernetes, so discovery has fixed addresses in its place; what it says is compared with
    what Prometheus knows: roles and namespaces.
    """
    config, discoveries = _without_kubernetes([])
    assert {"pod", "endpoints"} == {discovery["role"] for discovery in discoveries}
    for discovery in discoveries:
        assert discovery.keys() == {"role", "namespaces"}
        assert discovery["namespaces"] in ({"own_namespace": True}, {"names": ["default"]})
    promtool("check", "config", "--lint=all", "--lint-fatal", "--syntax-only", _written(config, tmp_path))


def test_what_a_pod_is_called(tmp_path: Path) -> None:
    """Services and everything else get from their pods the job and labels that rules and dashboards go by."""
    pods = [_pod("catalogue"), _pod("links"), _pod("postgres-exporter", "metrics"), _pod("loki", "http-metrics")]
    config = _written(_without_kubernetes(pods)[0], tmp_path)
    where = {"namespace": "shop", "container": "main"}
    assert _discovered(config, "services") == [
        {"job": name, "service": name, "app": name, "pod": f"{name}-0", **where} for name in ("catalogue", "links")
    ]
    assert _discovered(config, "platform") == [
        {"job": "loki", "app": "loki", "pod": "loki-0", **where},
        {"job": "postgres", "app": "postgres-exporter", "pod": "postgres-exporter-0", **where},
    ]


def test_what_is_no_target(tmp_path: Path) -> None:
    """Other pods, other ports, pods that have ended or ask to be left out are not scraped."""
    pods = [
        _pod("somebody-elses"),
        _pod("catalogue", "debug"),
        _pod("catalogue", phase="Succeeded"),
        _pod("catalogue", annotation_prometheus_io_scrape="false"),
        _pod("postgres"),
        _pod("node-exporter", phase="Failed"),
    ]
    config = _written(_without_kubernetes(pods)[0], tmp_path)
    assert [*_discovered(config, "services"), *_discovered(config, "platform")] == []


def test_probes_ask_for_modules_that_there_are() -> None:
    """What the probe job names is in the blackbox exporter's configuration, and nothing else is there."""
    modules = set(_read(PROMETHEUS / "blackbox.yml")["modules"])
    for name in ("prometheus.yml", "kubernetes.yml"):
        jobs = {job["job_name"]: job for job in _read(PROMETHEUS / name)["scrape_configs"]}
        assert {group["labels"]["module"] for group in jobs["probe"]["static_configs"]} == modules, name


def test_blackbox_configuration_is_valid() -> None:
    """The blackbox exporter accepts its modules."""
    names = ("prometheus-blackbox-exporter", "blackbox_exporter")
    tool = next(filter(None, map(shutil.which, names)), None) or require(names[0])
    subprocess.run([tool, "--config.check", f"--config.file={PROMETHEUS / 'blackbox.yml'}"], check=True, timeout=30)


def test_every_target_has_limits() -> None:
    """No target can fill the disk, and no label of a target can be of any length."""
    limits = {"sample_limit", "target_limit", "label_limit", "label_name_length_limit", "label_value_length_limit"}
    for name in ("prometheus.yml", "kubernetes.yml"):
        without = [
            job["job_name"] for job in _read(PROMETHEUS / name)["scrape_configs"] if not all(map(job.get, limits))
        ]
        assert without == [], name


def _pod(app: str, port: str = "http", *, phase: str = "Running", **more: str) -> dict[str, str]:
    """What Kubernetes says of a pod's port."""
    said = {
        "namespace": "shop",
        "pod_name": f"{app}-0",
        "pod_phase": phase,
        "pod_label_app": app,
        "pod_container_name": "main",
        "pod_container_port_name": port,
    } | {f"pod_{name}": value for name, value in more.items()}
    return {f"{_META}{name}": value for name, value in said.items()}


def _without_kubernetes(pods: list[dict[str, str]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The configuration with `pods` in the place of what Kubernetes would say, and the discoveries that it had."""
    config = _read(PROMETHEUS / "kubernetes.yml")
    found = []
    for section in (*config["scrape_configs"], *config["alerting"]["alertmanagers"]):
        found += (discoveries := section.pop("kubernetes_sd_configs", []))
        if discoveries:
            section["static_configs"] = [
                {"targets": [f"10.0.0.{number}:80"], "labels": labels} for number, labels in enumerate(pods)
            ]
    return config, found


def _written(config: dict[str, Any], directory: Path) -> Path:
    path = directory / "prometheus.json"  # which is YAML
    path.write_text(json.dumps(config | {"rule_files": []}), encoding="utf-8")
    return path


def _discovered(config: Path, job: str) -> list[dict[str, str]]:
    """The labels of each target of a job, but for its address; by pod, as promtool has them in any order."""
    targets = json.loads(promtool("check", "service-discovery", "--timeout=300ms", config, job) or "null")
    found = []
    for target in targets or []:
        labels = {name: text for name, text in target.get("labels", {}).items() if not name.startswith("__")}
        if labels.pop("instance", None):
            found.append(labels)
    return sorted(found, key=lambda labels: labels["pod"])
