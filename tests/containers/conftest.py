"""What the tests of images and of Compose share: the engine, and an image of every service."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from chassis.testing.tools import missing, require

ROOT = Path(__file__).parents[2]
BUILD_LIMIT_S = 600


@pytest.fixture(scope="session")
def docker() -> str:
    """The path of the client, with an engine that answers."""
    client = require("docker")
    if subprocess.run([client, "info"], capture_output=True, check=False).returncode:
        missing("no Docker engine answers")
    return client


@pytest.fixture(scope="session")
def images(docker: str) -> Mapping[str, str]:
    """Service → its image as docker-compose.yml names it, built from this tree."""
    services = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").is_file())
    return {service: build(docker, service, f"storefront-{service}:1.0.0") for service in services}


@pytest.fixture(scope="session")
def load_image(docker: str) -> str:
    """The image of the load test as docker-compose.yml names it, built from this tree."""
    return build(docker, "load", "storefront-load:1.0.0", file="loadtest/Dockerfile")


def build(docker: str, service: str, tag: str, *, file: str = "Dockerfile", **arguments: str) -> str:
    """Build the image of a service and return its tag; raises AssertionError with the end of the builder's output.

    The builder has the network of this machine, and with it what serves packages there.
    """
    command = [docker, "build", "--network", "host", "--tag", tag, "--file", str(ROOT / file)]
    every = {"SERVICE": service} if file == "Dockerfile" else {}
    for name, value in {**every, **arguments}.items():
        command += ["--build-arg", f"{name}={value}"]
    done = subprocess.run(
        ["env", "DOCKER_BUILDKIT=1", *command, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"the image of {service} cannot be built:\n{done.stderr[-4000:]}"
    return tag
