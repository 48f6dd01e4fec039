"""Who may speak to whom is who has to, by what the services' settings lead to, and nobody else."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis.settings import RedisSettings
from tests.kubernetes.objects import SERVICES, Objects, environment, files, objects, secrets
from tests.kubernetes.policies import End, address, allowed, inside, stranger
from tests.kubernetes.settings import CLASSES, read, write

pytestmark = pytest.mark.kubernetes

POSTGRES, REDIS = 5432, 6379
OVERLAYS = ("dev", "dev-load", "prod")
CONTROLLER = stranger("controller", namespace="anywhere", labels={}, of_namespace={"storefront/role": "ingress"})
PROMETHEUS = stranger(
    "prometheus", namespace="monitoring", labels={"app.kubernetes.io/name": "prometheus"}, of_namespace={}
)
DNS = stranger("dns", namespace="kube-system", labels={"k8s-app": "kube-dns"}, of_namespace={})
STRANGERS = (
    CONTROLLER,
    PROMETHEUS,
    DNS,
    stranger("grafana", namespace="monitoring", labels={"app.kubernetes.io/name": "grafana"}, of_namespace={}),
    stranger("false gateway", namespace="elsewhere", labels={"app": "gateway"}, of_namespace={}),
    stranger(
        "false prometheus", namespace="elsewhere", labels={"app.kubernetes.io/name": "prometheus"}, of_namespace={}
    ),
)
STORES_OUTSIDE = (address("postgres", "192.0.2.16/28"), address("redis", "192.0.2.32/28"))
PORTS = (53, 80, 443, POSTGRES, REDIS, 5000, 5001, 5002, 5557, 8000, 9090)

Edge = tuple[str, str, int]


def edges_of_settings(found: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[Edge]:
    """Where the services go, asked of their settings as each pod would read them: the URLs of other services, the
    database, and Redis where there are settings for it.
    """
    edges: set[Edge] = set()
    for pod in found.pods:
        if pod.service is None or pod.name.startswith("load"):
            continue
        directory = write(files(found, pod, secrets()), tmp_path / pod.name)
        with monkeypatch.context() as patch:
            settings = read(pod.service, environment=environment(found, pod), directory=directory, monkeypatch=patch)
        edges.add((pod.name, "postgres", settings.db.port))
        redis = getattr(settings, "redis", None)
        if pod.kind != "Deployment":
            continue  # what migrates has the settings of a service, and speaks to the database only
        if isinstance(redis, RedisSettings):
            assert redis.url is not None
            edges.add((pod.name, "redis", urlsplit(redis.url.get_secret_value()).port or REDIS))
        for name in ("catalogue_url", "user_url", "links_url"):
            if url := getattr(settings, name, None):
                parts = urlsplit(url)
                edges.add((pod.name, str(parts.hostname), parts.port or 80))
        assert not getattr(settings, "gcs_bucket", None), "a bucket would be an edge more"
        assert not settings.model_dump().get("kafka", {}).get("bootstrap_servers"), "Kafka would be one too"
    return edges


def open_edges(ends: list[End]) -> set[Edge]:
    """What the policies let through between any two of these, one of which at least is ours; DNS apart."""
    return {
        (source.name, target.name, port)
        for source, target in itertools.product(ends, ends)
        if (source.policies is not None or target.policies is not None) and source.name != target.name
        for port in PORTS
        if allowed(source, target, port)
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_edges_are_those_of_the_code_and_no_other(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all pairs of pods, strangers and stores, only these can connect: the world to the gateway, a service to what
    its settings name, Prometheus to the services, everybody to DNS; in a load test its visitors to the gateway.
    """
    found = objects(overlay)
    ends = [*inside(found), *STRANGERS, *(STORES_OUTSIDE if overlay == "prod" else ())]
    wanted = edges_of_settings(found, tmp_path, monkeypatch)
    wanted |= {("controller", "gateway", 8000)}
    wanted |= {("prometheus", service, found.pod(service).ports["http"]) for service in SERVICES}
    wanted |= {(pod.name, "dns", 53) for pod in found.pods}
    if overlay == "dev-load":
        wanted |= {(name, "gateway", 8000) for name in ("load-master", "load-workers")}
        wanted |= {("load-workers", "load-master", 5557)}
    assert open_edges(ends) == wanted


def test_jobs_reach_the_database_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What migrates runs under the policies of the rollout before it."""
    for rollout, overlay in (("dev", "dev/migrations"), ("prod", "prod/migrations")):
        policies = tuple(objects(rollout).of("NetworkPolicy"))
        found = objects(overlay)
        jobs = [
            End(pod.name, pod.labels, {"kubernetes.io/metadata.name": "storefront"}, {}, policies)
            for pod in found.pods
            if pod.kind == "Job"
        ]
        stores = [end for end in inside(objects("dev")) if end.name in ("postgres", "redis")]
        others = [*(STORES_OUTSIDE if rollout == "prod" else stores), *STRANGERS]
        edges = {
            (job.name, each.name, port) for job in jobs for each in others for port in PORTS if allowed(job, each, port)
        }
        assert edges == {edge for job in jobs for edge in ((job.name, "postgres", POSTGRES), (job.name, "dns", 53))}


def test_there_is_a_deny_all() -> None:
    """Every pod is held by a policy of both ways that lets nothing through."""
    for overlay in OVERLAYS:
        spec = objects(overlay).one("NetworkPolicy", "deny-all")["spec"]
        assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_dns_is_asked_by_datagram_too() -> None:
    """Port 53 is open for both protocols."""
    (gateway,) = (end for end in inside(objects("prod")) if end.name == "gateway")
    assert allowed(gateway, DNS, 53, "UDP")
    assert not allowed(gateway, DNS, 5353, "UDP")


def test_every_service_is_known() -> None:
    """The settings that the edges are read from are those of all services."""
    assert set(CLASSES) == set(SERVICES)
