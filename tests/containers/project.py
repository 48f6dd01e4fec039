"""One run of docker-compose.yml under a name and on ports of its own, beside any other."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from chassis.testing import free_port, wait_until
from chassis.testing.tools import missing

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
NEEDED = ("gateway", "prometheus", "alertmanager", "postgres-exporter", "redis-exporter")
"""What is started whatever happens, with all that it depends on; of the rest, what there is an image for."""


class ComposeFailed(AssertionError):
    """A command ended with a status that is not 0; the message has the end of what it said."""


def run(*command: str, timeout_s: float = 300, env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run a command in the tree's root. Returns its standard output; raises ComposeFailed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise ComposeFailed(
            f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout


@functools.cache
def compose_commands() -> list[tuple[str, ...]]:
    """The Composes of this machine, 2 first. Without any the test is skipped, or fails when `CI` is set."""
    found: list[tuple[str, ...]] = []
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        found.append(("docker", "compose"))
    if shutil.which("docker-compose"):
        found.append(("docker-compose",))
    return found or missing("there is no Docker Compose")


def configuration(command: Sequence[str], **variables: str) -> dict[str, Any]:
    """docker-compose.yml as this Compose understands it, profiles included."""
    every = {"COMPOSE_PROFILES": "kafka,alloy,load"}
    loaded: dict[str, Any] = yaml.safe_load(run(*command, "config", env={**every, **variables}))
    return loaded


def has_image(image: str) -> bool:
    """Whether this machine has the image already."""
    return not subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode


class Project:
    """The storefront in containers.

    Args:
        name: of the project; containers, volumes and networks begin with it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.gateway_port = free_port()
        self.grafana_port = free_port()
        self._command = compose_commands()[0]
        self._env = {
            "COMPOSE_PROJECT_NAME": name,
            "GATEWAY_PORT": str(self.gateway_port),
            "GRAFANA_PORT": str(self.grafana_port),
            "DRAIN_SECONDS": "0.2",
        }

    def compose(self, *arguments: str, timeout_s: float = 300, stdin: str = "") -> str:
        """Run Compose for this project. Returns what it printed; raises ComposeFailed."""
        return run(*self._command, *arguments, timeout_s=timeout_s, env=self._env, stdin=stdin)

    def up(self) -> list[str]:
        """Start `NEEDED` and every other service whose image is here. Returns the services that run or have run."""
        services = yaml.safe_load(FILE.read_text())["services"]
        more = [
            name for name, service in services.items() if not service.get("profiles") and has_image(service["image"])
        ]
        self.compose("up", "-d", "--no-build", *NEEDED, *more)
        self.wait_until_well()
        return list(self.containers())

    def wait_until_well(self, *, timeout_s: float = 120) -> None:
        """Until every job has ended well and every service that says how it is says that it is healthy."""
        try:
            wait_until(lambda: not self.ill(), timeout_s=timeout_s, interval_s=0.5)
        except TimeoutError as error:
            said = {service: self.containers()[service]["State"] for service in self.ill()}
            raise TimeoutError(f"not well within {timeout_s:g} s: {json.dumps(said)}") from error

    def ill(self) -> list[str]:
        """The services that are neither healthy nor jobs that ended with 0."""
        return [service for service, found in self.containers().items() if not _is_well(found["State"])]

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker knows of each service's container."""
        ids = run("docker", "ps", "-a", "-q", *self._filter()).split()
        found = json.loads(run("docker", "inspect", *ids)) if ids else []
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container. Returns what it printed; raises ComposeFailed."""
        container = run("docker", "ps", "-q", *self._filter(service)).strip()
        return run("docker", "exec", container, *command)

    def _filter(self, service: str = "") -> list[str]:
        labels = [f"project={self.name}", *([f"service={service}"] if service else [])]
        return [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]

    def left_overs(self) -> list[str]:
        """The containers, volumes and networks of this project that exist."""
        return [
            line
            for kind in (("ps", "-a"), ("volume", "ls"), ("network", "ls"))
            for line in run("docker", *kind, "-q", *self._filter()).split()
        ]


def _is_well(state: dict[str, Any]) -> bool:
    if state["Status"] == "exited":
        return bool(state["ExitCode"] == 0)
    return bool(state["Status"] == "running" and state.get("Health", {}).get("Status", "healthy") == "healthy")
