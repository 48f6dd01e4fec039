"""The configuration of Compose's Prometheus, with this machine's addresses in the place of its discovery."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r"\b([a-z][a-z-]*):(\d+)\b")
"""`<name of Compose>:<port>`, also inside a URL."""


class _NotHereError(LookupError):
    """An address of Compose that leads nowhere on this machine."""


def localised(
    document: Mapping[str, Any], places: Mapping[str, str], *, directory: Path
) -> tuple[dict[str, Any], list[str]]:
    """`document`, a Prometheus configuration for Compose, for this machine; and the jobs that it has lost.

    Jobs keep their names, labels, limits and relabelling; rules and alerts are those of the document. A job that has
    an address without a place is left out.

    Args:
        places: `<name>:<port>` in Compose → `<host>:<port>` here.
        directory: where the document is: its rules are found from there.
    """
    local = copy.deepcopy(dict(document))
    local["rule_files"] = [str(directory / pattern) for pattern in local.get("rule_files", [])]
    local["scrape_configs"], lost = _jobs(local["scrape_configs"], places)
    for manager in local.get("alerting", {}).get("alertmanagers", []):
        _settle(manager, places)
    return local, lost


def _jobs(jobs: list[dict[str, Any]], places: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    kept, lost = [], []
    for job in jobs:
        try:
            _settle(job, places)
        except _NotHereError:
            lost.append(job["job_name"])
        else:
            kept.append(job)
    return kept, lost


def _settle(job: dict[str, Any], places: Mapping[str, str]) -> None:
    """Give a job fixed addresses of this machine. Raises _NotHereError."""
    groups = [_static(group, places) for group in job.pop("static_configs", [])]
    for discovery in job.pop("dns_sd_configs", []):
        for name in discovery["names"]:
            address = f"{name}:{discovery['port']}"
            groups.append({"targets": [_local(address, places)]} | _kept_name(address))
    job["static_configs"] = groups
    for step in job.get("relabel_configs", []):
        if "replacement" in step:
            step["replacement"] = _local(step["replacement"], places)


def _static(group: dict[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    return group | {"targets": [_local(target, places) for target in group["targets"]]}


def _kept_name(address: str) -> dict[str, Any]:
    """Exporters get another port each time; their series go on under the name that they have in Compose."""
    return {"labels": {"instance": address}} if "-exporter:" in address else {}


def _local(text: str, places: Mapping[str, str]) -> str:
    def place(found: re.Match[str]) -> str:
        try:
            return places[found[0]]
        except KeyError:
            raise _NotHereError(found[0]) from None

    return _ADDRESS.sub(place, text)
