"""What docker-compose.yml says, before anything is started."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.containers.project import FILE, ROOT, compose_commands, configuration

pytestmark = pytest.mark.containers

JOBS = {"secrets", "postgres-roles", "catalogue-migrate", "catalogue-sample", "user-migrate", "user-sample",
        "links-migrate", "gateway-migrate"}  # fmt: skip
LOAD = {"load-master", "load-worker"}
"""A load test: both end with it, and nothing waits for that."""

PUBLISHED = {"gateway", "grafana"}
WRITABLE = {"kafka": "its start writes the configuration below /opt/kafka"}


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    """docker-compose.yml as it is written, anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


@pytest.fixture(scope="module")
def services(file: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its services by name."""
    found: dict[str, dict[str, Any]] = file["services"]
    return found


def test_every_compose_of_this_machine_takes_it(services: dict[str, Any]) -> None:
    """Compose, 2 or 1.29 or both, finds no mistake in it and sees every service."""
    for command in compose_commands():
        assert configuration(command)["services"].keys() == services.keys()


def test_images_are_pinned_in_one_place(services: dict[str, Any]) -> None:
    """Every image has an exact version, and no version is written twice."""
    images = {service["image"] for service in services.values()}
    for image in images:
        assert re.fullmatch(r"[a-z0-9./_-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?", image), image
        assert FILE.read_text().count(f"image: {image}\n") == 1, image
    repositories = [image.rpartition(":")[0] for image in images]
    assert len(repositories) == len(set(repositories))


def test_images_of_ours_are_built_once(services: dict[str, Any]) -> None:
    """By the first job that needs each: it comes before everybody else who does."""
    built = {service["image"]: name for name, service in services.items() if "build" in service}
    jobs = {name: f"{name}-migrate" for name in ("gateway", "catalogue", "user", "links")} | {"load": "load-master"}
    assert built == {f"storefront-{name}:1.0.0": job for name, job in jobs.items()}
    bake = (ROOT / "docker-bake.hcl").read_text()
    assert re.search(r'variable "VERSION" \{\s+default = "1\.0\.0"', bake), "and bake gives the same tag"


def test_only_the_gateway_and_grafana_are_published(file: dict[str, Any], services: dict[str, Any]) -> None:
    """Nothing else has a port on the host, these have theirs on this machine only, and only they have a network that
    leads outside.
    """
    assert {name for name, service in services.items() if service.get("ports")} == PUBLISHED
    for name in PUBLISHED:
        (port,) = services[name]["ports"]
        assert port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:")
    outside = {name for name, network in file["networks"].items() if not (network or {}).get("internal")}
    assert {name for name, service in services.items() if outside & set(service.get("networks", ()))} == PUBLISHED
    assert all(service.get("networks") or service.get("network_mode") == "none" for service in services.values())


def test_every_service_is_bounded(services: dict[str, Any]) -> None:
    """Memory, processes and log files of each have a limit, and what watches has less of a claim on processors."""
    watching = {name for name, service in services.items() if "observability" in service.get("networks", ())}
    assert {name for name, service in services.items() if service.get("cpu_shares", 1024) < 1024} == watching
    for name, service in services.items():
        assert re.fullmatch(r"\d+m", service["mem_limit"]), name
        assert service["pids_limit"] <= 512, name
        options = service["logging"]["options"]
        assert service["logging"]["driver"] == "json-file", name
        assert options == {"max-size": "10m", "max-file": "3", "tag": f"storefront/{name}/{{{{.Name}}}}"}, name


def test_every_service_has_as_little_power_as_it_can(services: dict[str, Any]) -> None:
    """No capability that is not named, no way to gain one, a root that cannot be written to, and nothing of the host
    but Docker's log files, the tree's own files and, for what measures the machine, its file systems, all read-only.
    """
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is (name not in WRITABLE), name
        assert not {"privileged", "devices", "pid", "ipc", "userns_mode", "cgroup_parent"} & service.keys(), name
        assert service.get("network_mode", "none") == "none", name
        for volume in service.get("volumes", ()):
            source = volume.replace("${DOCKER_CONTAINERS:-/var/lib/docker/containers}", "/var/lib/docker/containers")
            if source.startswith(("/", ".")):
                assert source.endswith(":ro"), (name, volume)
                assert "docker.sock" not in source
                assert source.startswith("./") or name in {"promtail", "alloy", "node-exporter"}, (name, volume)
    assert {name for name, service in services.items() if service.get("cap_add")} == {"secrets", "postgres"}


def test_every_service_says_how_it_is(services: dict[str, Any]) -> None:
    """Each has a health check but the jobs, whose end says it; jobs are not started again, the rest is. A load test
    is a job whose master says when workers may come.
    """
    for name, service in services.items():
        assert service["restart"] == ("no" if name in JOBS | LOAD else "unless-stopped"), name
        assert ("test" in service.get("healthcheck", {})) is (name not in JOBS | {"load-worker"}), name


def test_a_load_test_runs_when_it_is_asked_for(services: dict[str, dict[str, Any]]) -> None:
    """`up` alone starts no visitors. They reach the gateway and no store, know a key by a file, and leave reports."""
    assert {name for name, service in services.items() if service.get("profiles") == ["load"]} == LOAD
    for name in LOAD:
        assert services[name]["networks"] == ["services"]
        assert services[name]["volumes"] == ["load-secrets:/keys:ro", "load-results:/results"]
        assert services[name]["environment"]["LOCUST_HOST"] == "http://gateway:8000"
    dockerfile = (ROOT / "loadtest" / "Dockerfile").read_text()
    assert "LOAD_KEY_FILE=/keys/keys" in dockerfile
    assert 'give "$LOAD" load/keys' in (ROOT / "containers" / "secrets.sh").read_text()


def test_services_wait_for_the_jobs_before_them(services: dict[str, Any]) -> None:
    """Who depends on a job waits for its end, who depends on a store for its health; so a start is in order."""
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in JOBS else "service_healthy"
            assert how == {"condition": wanted}, (name, other)
    depended_on = {other for service in services.values() for other in service.get("depends_on", {})}
    assert depended_on >= JOBS


def test_a_stop_waits_for_requests_in_flight(services: dict[str, Any]) -> None:
    """Docker kills nobody who is still draining: 5 s of draining and 15 s for requests are the defaults."""
    for name in ("gateway", "catalogue", "user", "links"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > 5 + 15


def test_no_secret_is_in_it(services: dict[str, Any]) -> None:
    """Passwords and keys come from files in volumes; a variable names the file at the most."""
    for name, service in services.items():
        for variable in service.get("environment", {}):
            secret = re.search(r"PASS|SECRET|TOKEN|_KEY|REDIS_URL|DATABASE_URL", variable)
            assert not secret or variable.endswith("_FILE"), (name, variable)
    mounted = [volume for service in services.values() for volume in service.get("volumes", ())]
    assert sum(volume.startswith("secrets:") for volume in mounted) == 1, "all of them are for the job alone"


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    """Each file and folder of this tree that a container gets is in the tree."""
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    missing = [path for path in mounted if path.startswith("./") and not (ROOT / path).exists()]
    assert not missing


def test_scripts_are_posix_shell() -> None:
    """The shell of Alpine and of Debian takes each script that a container runs."""
    scripts = [*(ROOT / "containers").glob("*.sh"), ROOT / "scripts" / "up.sh"]
    assert len(scripts) > 2
    for script in scripts:
        assert script.read_text().startswith("#!/bin/sh\n")
        subprocess.run(["dash" if _has_dash() else "sh", "-n", script], check=True)


def _has_dash() -> bool:
    return not subprocess.run(["sh", "-c", "command -v dash"], capture_output=True, check=False).returncode
