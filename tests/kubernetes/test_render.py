"""What kubectl makes of k8s/ is what Kubernetes takes, from the oldest version that is promised to the newest."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes import tools
from tests.kubernetes.custom import CRDS, faults
from tests.kubernetes.tools import ALL, CUSTOM, K8S, NEWEST, OLDEST, ROOT, TOOLS, documents, validate

pytestmark = pytest.mark.kubernetes

APPLY_LIMIT_BYTES = 262_144
"""`kubectl apply` keeps the whole object in an annotation, and annotations may have this much together."""


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", ALL)
def test_kubernetes_takes_every_object(overlay: str, version: str, tmp_path: Path) -> None:
    """Each object is one that this version knows, with no field that it does not."""
    objects = [each for each in documents(overlay) if each["kind"] not in CUSTOM]
    code, output = validate(objects, version=version, directory=tmp_path)
    assert code == 0, output
    passed = [line for line in output.splitlines() if "passed for resource " in line and f"version {version}" in line]
    assert len(passed) == len(objects), output


def test_the_validator_sees_a_wrong_field(tmp_path: Path) -> None:
    """A misspelt field, and one of the wrong type, are found: the test above does not pass whatever happens."""
    for spoil in ({"maxUnavailabel": 1}, {"maxUnavailable": [1]}):
        (good, *_) = (copy.deepcopy(each) for each in documents("dev") if each["kind"] == "PodDisruptionBudget")
        good["spec"] |= spoil
        assert validate([good], version=OLDEST, directory=tmp_path)[0] == 1


@pytest.mark.parametrize("overlay", ALL)
def test_custom_objects_have_their_shape(overlay: str) -> None:
    """ServiceMonitor, Gateway and HTTPRoute are what their definitions say, as far as k8s/ uses them."""
    for each in documents(overlay):
        if each["kind"] in CUSTOM:
            assert list(faults(each)) == []


LISTENER = {"name": "more", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "storefront-tls"}]}}
WRONG: list[tuple[str, str, Any]] = [
    ("ServiceMonitor", "spec.sampleLimit", "20000"),
    ("ServiceMonitor", "spec.endpoints.0.interval", "30"),
    ("ServiceMonitor", "spec.endpoints.0.interval", "30s1m"),
    ("ServiceMonitor", "spec.endpoints.0.interval", "5s"),
    ("ServiceMonitor", "spec.endpoints.0.portName", "http"),
    ("Gateway", "spec.gatewayClassName", ""),
    ("Gateway", "spec.listeners.0.hostname", "*.*.example.com"),
    ("Gateway", "spec.listeners.0.name", "Https"),
    ("Gateway", "spec.listeners.0.name", "http"),
    ("Gateway", "spec.listeners.0.tls", {"certificateRefs": []}),
    ("Gateway", "spec.listeners.0.tls", {"mode": "Passthrough"}),
    ("Gateway", "spec.listeners.1.tls", LISTENER["tls"]),
    ("Gateway", "spec.listeners.1", LISTENER | {"protocol": "TLS"}),
    ("Gateway", "spec.listeners.1", {"name": "more", "port": 1, "protocol": "TCP", "hostname": "shop.example.com"}),
    ("Gateway", "spec.listeners.1", LISTENER | {"port": 443, "hostname": "shop.example.com"}),
    ("HTTPRoute", "spec.parentRefs", []),
    ("HTTPRoute", "spec.parentRefs", [{"name": "storefront"}, {"name": "storefront", "sectionName": "http"}]),
    ("HTTPRoute", "spec.rules.0.timeouts", {"request": "10s", "backendRequest": "1m"}),
    ("HTTPRoute", "spec.rules.0.timeouts", {"request": "1d"}),
    ("HTTPRoute", "spec.rules.0.matches.0.path.value", "links"),
    ("HTTPRoute", "spec.rules.0.matches.0.path.value", "/a//b"),
    ("HTTPRoute", "spec.rules.0.matches.0.path.value", "/a/.."),
    ("HTTPRoute", "spec.rules.0.matches.0.path.value", "/a%2Fb"),
    ("HTTPRoute", "spec.rules.0.matches.0.path.value", "/a#b"),
    ("HTTPRoute", "spec.rules.0.filters", [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]),
    ("HTTPRoute", "spec.rules.0.backendRefs.0", {"name": "gateway"}),
    ("HTTPRoute", "spec.rules", [{"matches": [{"path": {"type": "Exact", "value": "/"}}] * 64}] * 3),
]
"""Kind, place, and what there must not be there: each is something that its definition refuses."""


@pytest.mark.parametrize(("kind", "place", "value"), WRONG, ids=lambda each: str(each)[:40])
def test_what_a_definition_refuses_is_found(kind: str, place: str, value: Any) -> None:
    """One of production's objects is well, and with that one value it is not."""
    good = next(each for each in documents("prod") if each["kind"] == kind)
    bad = copy.deepcopy(good)
    *steps, last = (int(step) if step.isdigit() else step for step in place.split("."))
    at: Any = bad
    for step in steps:
        at = at[step]
    at[last] = value
    assert list(faults(good)) == []
    assert list(faults(bad)) != []


def test_all_kinds_are_checked_and_every_kustomization_is_used() -> None:
    """Of the custom kinds each has a schema and is in use, and what is in k8s/ is part of an overlay."""
    assert {each["kind"] for each in documents("prod")} >= CUSTOM == set(CRDS) - {"$defs"}
    overlays = {path.parent for path in K8S.glob("overlays/**/kustomization.yaml")}
    kustomizations = {path.parent for path in ROOT.glob("[a-z]*/**/kustomization.yaml") if TOOLS not in path.parents}
    used = set(overlays)
    for folder in kustomizations:
        file = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
        used |= {(folder / each).resolve() for each in [*file.get("resources", []), *file.get("components", [])]}
    assert kustomizations <= used
    assert {path.relative_to(K8S / "overlays").as_posix() for path in overlays} - {"prod/settings"} == set(ALL)


@pytest.mark.parametrize("overlay", ALL)
def test_names_are_unique_and_objects_small_enough(overlay: str) -> None:
    """No object is there twice, each is in a namespace if it can be, and `kubectl apply` can keep what it applied."""
    seen = set()
    for each in documents(overlay):
        metadata = each["metadata"]
        key = (each["kind"], metadata.get("namespace"), metadata["name"])
        assert key not in seen
        seen.add(key)
        assert metadata.get("namespace") or each["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding"), key
        assert len(yaml.safe_dump(each).encode()) < APPLY_LIMIT_BYTES, key


@pytest.mark.parametrize("overlay", ALL)
def test_no_secret_is_in_an_overlay(overlay: str) -> None:
    """Secrets are named and never there."""
    assert [each["metadata"]["name"] for each in documents(overlay) if each["kind"] == "Secret"] == []


def test_the_tools_are_pinned_and_name_no_place() -> None:
    """kubectl's package and the schemas have versions and hashes; where to get them from is the user's own choice."""
    lock = (TOOLS / "package-lock.json").read_text("utf-8")
    assert "resolved" not in lock
    assert re.findall(r"https?://\S+", lock) == []
    wanted = re.findall(r'"(@[\w/-]+)": "[\d.]+"', (TOOLS / "package.json").read_text("utf-8"))
    assert wanted == re.findall(r'"node_modules/([^"]+)": \{\s+"version": "[\d.]+",\s+"integrity": "sha512-', lock)
    pins = (TOOLS / "requirements.txt").read_text("utf-8")
    assert "://" not in pins
    assert "kubernetes-validate==" in pins
    same = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements" / "dev.txt").read_text("utf-8"), re.MULTILINE))
    for name, version in re.findall(r"^([\w-]+)==(\S+)", pins, re.MULTILINE):
        assert same.get(name, version) == version
    assert len(re.findall(r"^[\w-]+==\S+ .*\\\n    --hash=sha256:[0-9a-f]{64}", pins, re.MULTILINE)) == len(
        re.findall(r"^[\w-]+==", pins, re.MULTILINE)
    )


def test_the_promised_versions_are_written_down() -> None:
    """docs/kubernetes.md says which versions of Kubernetes these are."""
    assert f"{tools.OLDEST} to {tools.NEWEST}" in (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
