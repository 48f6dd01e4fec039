"""What `make observe` starts beside which run, and on which ports. Nothing is started here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from chassis.children import free_port
from stack import observe_tools, state
from stack.observe_config import localised
from stack.observe_tools import EXPORTERS, Command
from stack.plan import HOST, SERVICES, Plan, StackError, check_port, port_of

PROMETHEUS_PORT, ALERTMANAGER_PORT = 9090, 9093


@dataclass(frozen=True)
class Watch:
    """One `make observe`: what it starts, and what there is to see.

    Attributes:
        scraped: (job, addresses) of all that is scraped.
        missing: Debian's packages of exporters that are not installed.
        lost: jobs of Compose that there are none of here.
        exporter_log: where the exporters' lines go.
    """

    plan: Plan
    prometheus_url: str
    alertmanager_url: str
    commands: list[Command]
    scraped: list[tuple[str, list[str]]]
    missing: list[str]
    lost: list[str]
    exporter_log: Path


def check_run(plan: Plan) -> None:
    """Raise StackError if nothing runs there."""
    if not state.is_running(plan.directory):
        raise StackError("there is nothing to observe: start `make run` in another shell, and leave it running")


def make_watch(plan: Plan, configuration: Path) -> Watch:
    """The plan to watch a run, and the files that it takes, in `.run/observe/`.

    Args:
        configuration: the directory `observability`.

    Raises:
        StackError: Prometheus or Alertmanager is missing, or a port is taken.
    """
    ports = {
        "prometheus": port_of("PROMETHEUS_PORT", PROMETHEUS_PORT, plan.environment),
        "alertmanager": port_of("ALERTMANAGER_PORT", ALERTMANAGER_PORT, plan.environment),
    }
    directory = plan.directory / "observe"
    path = plan.environment.get("PATH")
    prometheus = observe_tools.prometheus(
        directory / "prometheus.json", directory / "prometheus", port=ports["prometheus"], path=path
    )
    alertmanager = observe_tools.alertmanager(
        configuration / "alertmanager" / "alertmanager.yml",
        directory / "alertmanager",
        port=ports["alertmanager"],
        path=path,
    )
    for name, port in ports.items():
        check_port(name, port, f"{name.upper()}_PORT", verb="observe")
    places = {f"{service.name}:{service.default_port}": f"{HOST}:{plan.ports[service.name]}" for service in SERVICES}
    places["localhost:9090"] = f"{HOST}:{ports['prometheus']}"
    places["alertmanager:9093"] = f"{HOST}:{ports['alertmanager']}"
    missing, exporters = [], []
    for exporter in EXPORTERS:
        binary = observe_tools.find(exporter.package, exporter.binary, path=path)
        if binary is None:
            missing.append(exporter.package)
            continue
        port = free_port()
        places[exporter.address] = f"{HOST}:{port}"
        blackbox = configuration / "prometheus" / "blackbox.yml"
        exporters.append(observe_tools.exporter(exporter, binary, port=port, urls=_urls(plan), blackbox=blackbox))
    jobs, lost = _write_configuration(configuration / "prometheus", places, directory)
    return Watch(
        plan=plan,
        prometheus_url=prometheus.url,
        alertmanager_url=alertmanager.url,
        commands=[alertmanager, *exporters, prometheus],
        scraped=jobs,
        missing=missing,
        lost=lost,
        exporter_log=directory / "exporters.log",
    )


def _write_configuration(
    source: Path, places: Mapping[str, str], directory: Path
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Write `prometheus.json`; return what is scraped and what is not."""
    document = yaml.safe_load((source / "prometheus.yml").read_text(encoding="utf-8"))
    local, lost = localised(document, places, directory=source)
    directory.mkdir(parents=True, exist_ok=True)
    # YAML takes JSON as it is.
    (directory / "prometheus.json").write_text(json.dumps(local, indent=2), encoding="utf-8")
    jobs = [
        (job["job_name"], [target for group in job["static_configs"] for target in group["targets"]])
        for job in local["scrape_configs"]
    ]
    return jobs, lost


def _urls(plan: Plan) -> dict[str, str]:
    """Where the run's stores are: what the user has named, else what the run has written down."""
    urls = state.store_urls(plan.directory)
    for name in ("DATABASE_URL", "REDIS_URL"):
        urls[name] = plan.given(name) or urls.get(name) or ""
        if not urls[name]:
            raise StackError(f"{plan.directory}/config does not say where {name} leads: set it as for `make run`")
    return urls
