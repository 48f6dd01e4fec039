"""What objects say of each other: every name, label, port, key and variable exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.settings import SettingsError, variables
from gateway.edge import local, routes
from gateway.edge.upstream import MAX_INSTANCES
from tests.kubernetes.objects import SERVICES, Objects, environment, files, objects, secrets, selects
from tests.kubernetes.settings import CLASSES, read, write
from tests.kubernetes.tools import ALL, K8S, ROOT
from tests.observability.queries import parse_promql

pytestmark = pytest.mark.kubernetes

DOCUMENT = ROOT / "docs" / "kubernetes.md"


@pytest.mark.parametrize("overlay", ALL)
def test_every_selector_matches(overlay: str) -> None:
    """Each selector takes exactly one kind of pod, those of deny-all, DNS and the like apart, and no selector of one
    workload takes the pods of another.
    """
    found = objects(overlay)
    for pod in found.pods:
        if selector := pod.workload["spec"].get("selector"):
            assert [each.name for each in found.pods if selects(selector, each.labels)] == [pod.name]
    for each in [*found.of("Service"), *found.of("PodDisruptionBudget")]:
        selector = each["spec"]["selector"]
        selector = selector if "matchLabels" in selector else {"matchLabels": selector}
        assert [pod.name for pod in found.pods if selects(selector, pod.labels)] == [each["metadata"]["name"]]
    for policy in found.of("NetworkPolicy"):
        pods = [
            *found.pods,
            *(objects("dev").pods if overlay == "dev/migrations" else ()),
        ]  # stores' policies are in both
        assert any(selects(policy["spec"]["podSelector"], pod.labels) for pod in pods), policy["metadata"]["name"]
    for monitor in found.of("ServiceMonitor"):
        selected = [
            each for each in found.of("Service") if selects(monitor["spec"]["selector"], each["metadata"]["labels"])
        ]
        (service,) = selected
        assert monitor["metadata"]["name"] == f"{service['metadata']['name']}-metrics"
        assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == service["metadata"]["name"]
        assert set(monitor["spec"]["targetLabels"]) <= set(service["metadata"]["labels"])
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


@pytest.mark.parametrize("overlay", ALL)
def test_every_port_leads_somewhere(overlay: str) -> None:
    """A Service's port is one of its pods, and the same number where it has no address of its own; a probe's is the
    container's; a route's, and the URLs in the gateway's settings, are a Service's.
    """
    found = objects(overlay)
    served: dict[str, set[int]] = {}
    for service in found.of("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        pod = found.pod(name)
        for port in spec["ports"]:
            target = port.get("targetPort", port["port"])
            number = pod.ports[target] if isinstance(target, str) else target
            assert number in pod.ports.values()
            if spec.get("clusterIP") == "None":
                assert number == port["port"], "nobody translates it"
            served.setdefault(name, set()).add(port["port"])
    for pod in found.pods:
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = pod.container.get(kind, {})
            for way in ("httpGet", "tcpSocket"):
                assert way not in probe or probe[way]["port"] in pod.ports
    for route in found.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert all(each["port"] in served[each["name"]] for each in rule.get("backendRefs", ()))
        gateway = found.one("Gateway", route["spec"]["parentRefs"][0]["name"])
        listeners = {each["name"]: each for each in gateway["spec"]["listeners"]}
        assert all(parent["sectionName"] in listeners for parent in route["spec"]["parentRefs"])
        assert route["spec"]["hostnames"] == [
            listeners[parent["sectionName"]]["hostname"] for parent in route["spec"]["parentRefs"]
        ]
    if overlay in ("dev", "prod"):
        gateway = environment(found, found.pod("gateway"))
        for name in ("catalogue", "user", "links"):
            assert gateway[f"{name.upper()}_URL"] == f"http://{name}:{min(served[name])}"


@pytest.mark.parametrize("overlay", [each for each in ALL if each != "prod/logs"])
def test_every_variable_and_key_exists_and_is_one_that_the_settings_know(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pod of a service is given variables that its settings have, keys of ConfigMaps and Secrets that are there,
    and files that the settings read without complaint; and it listens where the manifest says.
    """
    found, secret = objects(overlay), secrets()
    for pod in found.pods:
        given = files(found, pod, secret)
        if pod.service is None:
            continue
        known = {variable.name for variable in variables(CLASSES[pod.service])}
        variables_given = environment(found, pod)
        assert set(variables_given) <= known, pod.name
        directory = write(given, tmp_path / pod.name)
        with monkeypatch.context() as patch:
            settings = read(pod.service, environment=variables_given, directory=directory, monkeypatch=patch)
        assert settings.db.password is not None
        assert settings.db.model_fields_set >= {"host", "name", "user", "password"}
        if pod.kind == "Deployment":
            assert pod.ports == {"http": settings.port}
        if pod.service == "gateway":
            assert variables_given["GATEWAY_ADMIN_KEY_FILE"] in given
            assert found.overlay.startswith("dev") or variables_given["TRUSTED_PROXIES"]
        if pod.service == "catalogue":
            assert getattr(settings, "data_source") == "db"  # noqa: B009 - of the catalogue's own settings


def test_a_key_that_nobody_knows_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would see a misspelt key of a file."""
    found = objects("dev")
    pod = found.pod("catalogue")
    given = files(found, pod, secrets()) | {"/app/db-config/db-config.properties": "db_hots=postgres\n"}
    with pytest.raises(SettingsError, match="db_hots"):
        read("catalogue", environment={}, directory=write(given, tmp_path), monkeypatch=monkeypatch)


def test_every_secret_and_config_map_is_used_and_every_account_exists() -> None:
    """What k8s/secrets.sh makes is mounted by somebody, each ConfigMap is read, each ServiceAccount is in use."""
    mounted: set[str] = set()
    for overlay in ("dev", "dev/migrations", "dev-load"):
        found = objects(overlay)
        text = yaml.safe_dump_all(pod.workload for pod in found.pods)
        mounted |= set(re.findall(r"secretName: (\S+)", text))
        for name in found.names("ConfigMap"):
            shared = overlay == "dev" and name.startswith("containers-")  # its scripts for Jobs, its file for Redis
            assert shared or re.search(rf"name: {name}$", text, re.MULTILINE), name
        named = {pod.spec["serviceAccountName"] for pod in found.pods if "serviceAccountName" in pod.spec}
        assert named == found.names("ServiceAccount")
    assert mounted == set(secrets())


def test_productions_secrets_are_listed() -> None:
    """docs/kubernetes.md has a table of the Secrets that production refers to, each with its keys, and no other."""
    wanted: dict[str, set[str]] = {}
    for overlay in ("prod", "prod/migrations"):
        for pod in objects(overlay).pods:
            for volume in pod.spec["volumes"]:
                if "secret" in volume:
                    keys = wanted.setdefault(volume["secret"]["secretName"], set())
                    keys |= {item["key"] for item in volume["secret"]["items"]}
    for gateway in objects("prod").of("Gateway"):
        for listener in gateway["spec"]["listeners"]:
            for reference in listener.get("tls", {}).get("certificateRefs", ()):
                wanted[reference["name"]] = {"tls.crt", "tls.key"}
    rows = re.findall(r"^\| `([a-z-]+)` \| ((?:`[\w.]+`(?:, )?)+) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert {name: set(re.findall(r"`([\w.]+)`", keys)) for name, keys in rows} == wanted


def test_the_panels_to_watch_are_there() -> None:
    """Each dashboard and panel that docs/kubernetes.md names in its table exists."""
    boards = {}
    for path in (ROOT / "observability/grafana/dashboards").glob("*/*.json"):
        titles = re.findall(r'"title": "([^"]+)"', path.read_text("utf-8"))
        boards[json.loads(path.read_text("utf-8"))["title"]] = titles
    text = DOCUMENT.read_text("utf-8")
    named = re.findall(r'\*([A-Z][^*]+)\*[^|*]*?, ("[^|]+?")(?= \|)', text)
    assert len(named) > 5
    for board, panels in named:
        assert set(re.findall(r'"([^"]+)"', panels)) <= set(boards[board]), board


def test_prometheus_and_alloy_find_the_pods() -> None:
    """Pods have the labels and port names that observability/prometheus/kubernetes.yml and Alloy go by."""
    (job,) = (
        each
        for each in yaml.safe_load((ROOT / "observability/prometheus/kubernetes.yml").read_text("utf-8"))[
            "scrape_configs"
        ]
        if each["job_name"] == "services"
    )
    pattern = job["relabel_configs"][0]["regex"]
    for overlay in ("dev", "prod"):
        found = objects(overlay)
        matched = {
            pod.labels["app"]
            for pod in found.pods
            for port in pod.ports
            if re.fullmatch(pattern, f"{pod.labels['app']};{port}")
        }
        assert matched == set(SERVICES)
        assert all(pod.labels["app"] == pod.name for pod in found.pods), "logs are labelled by it"


# --- scaling


@pytest.fixture(scope="module")
def scalers() -> dict[str, Any]:
    """The autoscalers of production by name."""
    return {each["metadata"]["name"]: each["spec"] for each in objects("prod").of("HorizontalPodAutoscaler")}


def test_autoscalers_scale_what_there_is_and_no_further_than_it_works(scalers: dict[str, Any]) -> None:
    """Each service has one, by processors and by requests in flight. The gateway knows no more addresses of a name than
    the most pods, and all pods together open no more connections than docs/kubernetes.md tells PostgreSQL to allow.
    """
    assert set(scalers) == set(SERVICES)
    for name, spec in scalers.items():
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"] < MAX_INSTANCES, "one more is there in a rollout"
        kinds = [metric["type"] for metric in spec["metrics"]]
        assert kinds in (["Resource", "Pods"], ["Resource", "External"])
        assert spec["metrics"][0]["resource"]["name"] == "cpu"
    for name in SERVICES:
        connections = (scalers[name]["maxReplicas"] + 1) * connections_of(name)
        assert f"| {name} | {scalers[name]['maxReplicas']} | {connections} |" in DOCUMENT.read_text("utf-8")


def test_the_roles_of_the_small_cluster_have_connections_enough() -> None:
    """In a rollout of overlays/dev there is a pod more; each role may have that many connections, and a Job one."""
    script = (ROOT / "containers" / "postgres-roles.sh").read_text("utf-8")
    limits = [int(limit) for limit in re.findall(r"^role (?!exporter)\S+ \S+ (\d+)$", script, re.MULTILINE)]
    assert len(limits) == len(SERVICES)
    for name in SERVICES:
        pods = objects("dev").pod(name).workload["spec"]["replicas"] + 1
        assert pods * connections_of(name) + 1 <= min(limits)


def connections_of(service: str) -> int:
    """The most connections that a pod opens."""
    fields = CLASSES[service].model_fields
    pool_size: int = fields["db"].default_factory().pool_size  # type: ignore[misc, call-arg]
    workers: int = fields["web_concurrency"].default
    return workers * pool_size


def test_the_adapters_rules_give_what_autoscalers_ask_for(scalers: dict[str, Any]) -> None:
    """Names of measures agree, and what they are made of is a gauge that the gateway has, with the label that is
    selected by.
    """
    rules = yaml.safe_load((K8S / "components/autoscaling/adapter.yaml").read_text("utf-8"))["rules"]
    given = {rule["name"]["as"] for kind in ("custom", "external") for rule in rules[kind]}
    asked = set()
    for name, spec in scalers.items():
        measure = spec["metrics"][1]
        metric = measure[measure["type"].lower()]["metric"]
        asked.add(metric["name"])
        assert metric.get("selector", {"matchLabels": {"upstream": name}}) == {"matchLabels": {"upstream": name}}
    assert asked == given
    code = (ROOT / "services/gateway/src/gateway/edge/upstream.py").read_text("utf-8")
    for rule in (*rules["custom"], *rules["external"]):
        series = rule["seriesQuery"].partition("{")[0]
        assert re.search(rf'gauge\("{series}", "[^"]+", \("upstream",\)\)', code)
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", series)
        assert parse_promql([query.replace("<<.LabelMatchers>>", 'namespace="storefront"')]) == [None]


def test_budgets_leave_room_for_a_drain() -> None:
    """Every service of both overlays can lose a pod, and only one, to a node that is emptied."""
    for overlay in ("dev", "prod"):
        budgets = {
            each["metadata"]["name"]: each["spec"]["maxUnavailable"]
            for each in objects(overlay).of("PodDisruptionBudget")
        }
        assert budgets == dict.fromkeys(SERVICES, 1)


# --- what is public


def public(found: Objects) -> list[tuple[str, str]]:
    """(type, path) of what the route lets in."""
    return [
        (match["path"]["type"], match["path"]["value"])
        for rule in found.one("HTTPRoute", "storefront")["spec"]["rules"]
        for match in rule["matches"]
    ]


def lets_in(matches: list[tuple[str, str]], path: str) -> bool:
    """Whether a route takes this path (Gateway API: PathPrefix goes by whole segments)."""
    return any(
        path == value if kind == "Exact" else path == value or path.startswith(f"{value}/") for kind, value in matches
    )


def test_the_route_lets_in_what_is_public_and_nothing_that_is_internal() -> None:
    """All prefixes of the edge, tenants, the registry and the documents; not what the gateway shows to neighbours only,
    nor what is for probes.
    """
    matches = public(objects("prod"))
    assert all(lets_in(matches, prefix.path) for prefix in routes.PREFIXES)
    assert lets_in(matches, f"{routes.TENANTS}tenant/service/")
    assert all(
        lets_in(matches, path)
        for path in ("/api/v1/routes", "/api/service-status", "/docs", "/gateway/docs", "/health")
    )
    ends = local.endpoints(health=None, status=None, overview=None, metrics=None, peers=None)  # type: ignore[arg-type]
    internal = {path for path, endpoint in ends.items() if endpoint.internal}
    assert internal == {"/metrics", "/status"}
    for path in (*internal, "/health/live", "/health/ready", "/metrics/", "/anything"):
        assert not lets_in(matches, path)
    needed = [prefix.path for prefix in routes.PREFIXES]
    for kind, value in matches:
        others = [each for each in matches if each != (kind, value)]
        wanted = [*needed, *set(ends) - internal, "/api/v1/routes", "/gateway/docs", f"{routes.TENANTS}x"]
        assert any(lets_in([(kind, value)], path) and not lets_in(others, path) for path in wanted), (
            f"{value} is of no use"
        )


def test_the_world_comes_by_tls() -> None:
    """What is served is served by TLS; without, the answer is where to find it. Short links begin with that address."""
    found = objects("prod")
    listeners = {each["name"]: each for each in found.one("Gateway", "storefront")["spec"]["listeners"]}
    for route in found.of("HTTPRoute"):
        (parent,) = route["spec"]["parentRefs"]
        serves = any("backendRefs" in rule for rule in route["spec"]["rules"])
        assert listeners[parent["sectionName"]]["protocol"] == ("HTTPS" if serves else "HTTP")
        if not serves:
            (rule,) = route["spec"]["rules"]
            assert rule["filters"][0]["requestRedirect"]["scheme"] == "https"
    host = listeners["https"]["hostname"]
    assert environment(found, found.pod("links"))["PUBLIC_URL"] == f"https://{host}"
    assert all(each["spec"].get("type", "ClusterIP") == "ClusterIP" for each in found.of("Service"))
