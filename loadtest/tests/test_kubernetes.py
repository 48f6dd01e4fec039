"""The load test in a cluster, as k8s/components/locust describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "k8s" / "components" / "locust"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def manifest(name: str) -> dict[str, Any]:
    """A file of the component."""
    loaded: dict[str, Any] = yaml.safe_load((COMPONENT / name).read_text())
    return loaded


@pytest.fixture(params=["master.yaml", "workers.yaml"])
def job(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each of the two jobs."""
    return manifest(request.param)


def test_the_component_has_all_of_its_files() -> None:
    """And none beside them."""
    names = {path.name for path in COMPONENT.iterdir()}
    assert {*manifest("kustomization.yaml")["resources"], "kustomization.yaml"} == names


def test_the_image_is_that_of_compose(job: dict[str, Any]) -> None:
    """The same name and tag, which an overlay replaces at one place."""
    image = COMPOSE["load-master"]["image"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    (replaced,) = manifest("kustomization.yaml")["images"]
    assert f"{replaced['name']}:{replaced['newTag']}" == image


def test_pods_are_as_restricted_as_can_be(job: dict[str, Any]) -> None:
    """Pod Security's level `restricted`, a root that cannot be written to, no token of the cluster, bounds for all."""
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for bound in ("requests", "limits"):
        assert container["resources"][bound].keys() == {"cpu", "memory"}
    assert {next(kind for kind in volume if kind != "name") for volume in pod["volumes"]} <= {"secret", "emptyDir"}


def test_a_run_happens_once(job: dict[str, Any]) -> None:
    """A broken limit is a failed Job and not another try; what is over goes away by itself."""
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_workers_find_the_master() -> None:
    """By the Service's name, at the port that it listens on, and it waits for as many as there are."""
    service = manifest("service.yaml")
    master, workers = manifest("master.yaml"), manifest("workers.yaml")
    assert service["spec"]["selector"].items() <= master["spec"]["template"]["metadata"]["labels"].items()
    (worker,) = workers["spec"]["template"]["spec"]["containers"]
    assert f"--master-host={service['metadata']['name']}" in worker["args"]
    (container,) = master["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"] == 5557
    assert workers["spec"]["parallelism"] == workers["spec"]["completions"]
    assert f"--expect-workers={workers['spec']['parallelism']}" in container["args"]
