"""Every pod of every overlay: what it may do, what it gets, how it starts and ends."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from chassis import startup
from chassis.settings import load
from gateway.edge import upstream
from tests.kubernetes.objects import SERVICES, Pod, environment, objects
from tests.kubernetes.tools import ALL, K8S, ROOT

pytestmark = pytest.mark.kubernetes

COREDNS_TTL_S = 30
"""How long a name's addresses may be old: CoreDNS as kubeadm and most others set it up (`cache 30`)."""
ATTEMPT_S = 5.0
"""One attempt of `wait_for_database` takes no longer."""
BESIDE_S = 3
"""What a kubelet may need beside: it learns of a deletion, starts the hook, sends a signal."""


def every_pod(overlay: str) -> tuple[Pod, ...]:
    """The pods of an overlay; there are some."""
    pods = objects(overlay).pods
    assert pods
    return pods


@pytest.mark.parametrize("overlay", [each for each in ALL if each != "prod/logs"])
def test_pods_are_restricted(overlay: str) -> None:
    """All that Pod Security *restricted* asks for, and more: a root that cannot be written to, no token, an account of
    its own, no variables of other Services. The namespace lets in nothing else.
    """
    for pod in every_pod(overlay):
        spec, container = pod.spec, pod.container
        everywhere = spec["securityContext"]
        assert everywhere["runAsNonRoot"] is True
        assert everywhere["runAsUser"] >= 999
        assert everywhere["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostAliases", "shareProcessNamespace"} & set(spec)
        assert all("hostPort" not in port for port in container.get("ports", ()))
        kinds = {next(key for key in volume if key != "name") for volume in spec.get("volumes", ())}
        assert kinds <= {"configMap", "emptyDir", "secret"}, pod.name
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        if pod.service:
            assert everywhere["runAsUser"] == everywhere["runAsGroup"] == everywhere["fsGroup"] == 10001
    assert {namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            for namespace in objects(overlay).of("Namespace")} == {"restricted"}  # fmt: skip


def test_alloy_is_the_only_exception() -> None:
    """It reads files of the node as root, without a capability, in a namespace where nothing else is."""
    found = objects("prod/logs")
    (pod,) = found.pods
    assert pod.name == "alloy"
    assert found.names("Namespace") == {pod.namespace} == {"storefront-logs"}
    assert pod.container["securityContext"] == {
        "runAsUser": 0, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    mounted = {mount["name"]: mount for mount in pod.container["volumeMounts"]}
    assert mounted["pods"]["readOnly"] is True
    (role,) = found.of("ClusterRole")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    (binding,) = found.of("ClusterRoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "alloy", "namespace": "storefront-logs"}]
    config = found.one("ConfigMap", pod.spec["volumes"][0]["configMap"]["name"])["data"]["config.alloy"]
    assert config == (ROOT / "observability" / "alloy" / "kubernetes.alloy").read_text("utf-8")
    assert set(re.findall(r'sys\.env\("(\w+)"\)', config)) == set(environment(found, pod))
    assert environment(found, pod)["STOREFRONT_NAMESPACE"] == "storefront"


@pytest.mark.parametrize("overlay", ALL)
def test_what_a_pod_writes_to_is_an_empty_directory_with_a_limit(overlay: str) -> None:
    """/tmp of every pod, and the metrics' directory of every service, can be written to; configuration cannot."""
    for pod in every_pod(overlay):
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        if pod.kind == "StatefulSet":
            volumes |= {each["metadata"]["name"]: each for each in pod.workload["spec"]["volumeClaimTemplates"]}
        mounts = {mount["mountPath"]: mount for mount in pod.container["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} == set(volumes), "every volume is mounted, and no other"
        assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
        for mount in mounts.values():
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]
            elif "secret" in volume or "configMap" in volume:
                assert mount["readOnly"] is True
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
        if pod.kind == "Deployment" and pod.service:
            variables = environment(objects(overlay), pod)
            for variable in ("METRICS_DIR", "GATEWAY_STATE_DIR", "QR_DIR"):
                if variable in variables:
                    assert "emptyDir" in volumes[mounts[variables[variable]]["name"]], variable
            assert "METRICS_DIR" in variables


@pytest.mark.parametrize("overlay", ALL)
def test_resources_are_set(overlay: str) -> None:
    """Each container asks for processor and memory and has a limit of both; the services have the seed's for a service
    with a database.
    """
    for pod in every_pod(overlay):
        resources = pod.container["resources"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}, pod.name
        if pod.kind == "Deployment" and pod.service:
            assert resources == {
                "requests": {"cpu": "200m", "memory": "256Mi"},
                "limits": {"cpu": "500m", "memory": "512Mi"},
            }


@pytest.mark.parametrize("overlay", ALL)
def test_images_are_pinned_and_alike(overlay: str) -> None:
    """Each has an exact version: that of docker-compose.yml, which is the only other place that names images."""
    compose = set(re.findall(r"^\s+image: (\S+)$", (ROOT / "docker-compose.yml").read_text("utf-8"), re.MULTILINE))
    for pod in every_pod(overlay):
        assert pod.container["image"] in compose, pod.name
        assert pod.container.get("imagePullPolicy") in (None, "IfNotPresent")


def test_the_release_is_one_number() -> None:
    """The images' tag is the catalogue's `app_version` from its ConfigMap."""
    for overlay in ("dev", "prod"):
        found = objects(overlay)
        tags = {pod.container["image"].rpartition(":")[2] for pod in found.pods if pod.service}
        assert tags == {environment(found, found.pod("catalogue"))["APP_VERSION"]}


@pytest.mark.parametrize("overlay", ["dev", "prod"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_start_may_take_as_long_as_the_database_is_awaited(overlay: str, service: str) -> None:
    """The startup probe outlasts all attempts and the waits between them, and nobody kills the pod meanwhile."""
    container = objects(overlay).pod(service).container
    probe = container["startupProbe"]
    patience_s = probe["periodSeconds"] * probe["failureThreshold"] + probe.get("initialDelaySeconds", 0)
    longest_s = sum(startup.WAITS_S) + (len(startup.WAITS_S) + 1) * ATTEMPT_S
    assert sum(startup.WAITS_S) == 30
    assert patience_s > longest_s + 10, "ten seconds for Python on a crowded node"
    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}
    assert container["readinessProbe"]["timeoutSeconds"] > 1, "a check may take a second"


@pytest.mark.parametrize("overlay", ["dev", "prod"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_serves_until_nobody_comes_any_more(overlay: str, service: str, settings: dict[str, Any]) -> None:
    """preStop and drain outlast those who may still have the pod's address, and the grace period outlasts the drain and
    the requests in flight. A rollout takes no pod away before a new one is ready.
    """
    found = objects(overlay)
    pod = found.pod(service)
    drain_s = float(environment(found, pod)["DRAIN_SECONDS"])
    pre_stop_s = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    by_name = found.one("Service", service)["spec"].get("clusterIP") == "None"
    leaves_s = upstream.RESOLVE_EVERY_S + COREDNS_TTL_S if by_name else 10
    assert by_name == (service != "gateway")
    assert pre_stop_s >= BESIDE_S, "endpoints change while the hook sleeps"
    assert pre_stop_s + drain_s >= leaves_s
    stop_s = load(settings[service]).stop_timeout_seconds
    assert "STOP_TIMEOUT_SECONDS" not in environment(found, pod)
    assert pod.spec["terminationGracePeriodSeconds"] >= pre_stop_s + drain_s + stop_s + BESIDE_S
    strategy = pod.workload["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Service → its class of settings, which reads nothing of this machine."""
    from tests.kubernetes.settings import CLASSES, bare

    bare(monkeypatch)
    return dict(CLASSES)


def test_the_seeds_names_and_mounts() -> None:
    """The catalogue's configuration and secrets are called, and mounted, as its description says."""
    for overlay in ("dev", "prod"):
        pod = objects(overlay).pod("catalogue")
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod.container["volumeMounts"]}
        assert mounts["/app/secrets"]["secret"]["secretName"] == "catalogue-db-secrets"
        assert re.fullmatch(r"catalogue-config-\w+", mounts["/app/config.json"]["configMap"]["name"])
        assert mounts["/app/db-config"]["configMap"]["items"] == [
            {"key": "db-config.properties", "path": "db-config.properties"}
        ]
    monitor = objects("prod").one("ServiceMonitor", "catalogue-metrics")["spec"]
    assert monitor["selector"] == {"matchLabels": {"app": "catalogue"}}
    assert monitor["endpoints"][0] | {"port": "http", "path": "/metrics", "interval": "30s"} == monitor["endpoints"][0]


def test_the_bases_have_a_file_for_each_service() -> None:
    """With its Deployment, Service, ServiceAccount and PodDisruptionBudget."""
    for service in SERVICES:
        kinds = [each["kind"] for each in yaml.safe_load_all((K8S / "base" / f"{service}.yaml").read_text("utf-8"))]
        assert kinds == ["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"]
    assert {path.stem for path in (K8S / "base").glob("*.yaml")} == {*SERVICES, "kustomization"}


def test_production_has_more_pods_on_different_nodes() -> None:
    """Three at least, spread over zones and nodes; an autoscaler says how many and the Deployment does not."""
    found = objects("prod")
    for service in SERVICES:
        pod = found.pod(service)
        assert "replicas" not in pod.workload["spec"]
        assert found.one("HorizontalPodAutoscaler", service)["spec"]["minReplicas"] == 3
        spread = {each["topologyKey"]: each for each in pod.spec["topologySpreadConstraints"]}
        assert set(spread) == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(each["labelSelector"]["matchLabels"] == {"app": service} for each in spread.values())
        assert objects("dev").pod(service).workload["spec"]["replicas"] == 2
