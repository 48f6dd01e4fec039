"""Facts about the system that the home page shows."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CONTROL_GROUPS = Path("/proc/1/cgroup")
_RUNTIMES = ("docker", "containerd", "kubepods", "libpod", "crio")
# An address reserved for documentation (RFC 5737): nothing is sent to it, the kernel only chooses a route.
_SOMEWHERE = ("192.0.2.1", 9)


class Facts(NamedTuple):
    """Host name, the address that others see, and whether this is a container, and one in Kubernetes."""

    hostname: str
    address: str
    container: bool
    kubernetes: bool


def gather(environ: Mapping[str, str] = os.environ) -> Facts:
    """The facts about this process's system. No name is resolved, so that a lost resolver holds nothing up."""
    kubernetes = "KUBERNETES_SERVICE_HOST" in environ
    return Facts(
        hostname=socket.gethostname(),
        address=_address(),
        container=kubernetes or _in_container(),
        kubernetes=kubernetes,
    )


def _address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
            return str(probe.getsockname()[0])
        except OSError:  # no route: a machine without a network
            return "127.0.0.1"


def _in_container() -> bool:
    if any(mark.exists() for mark in _CONTAINER_MARKS):
        return True
    try:
        groups = _CONTROL_GROUPS.read_text()
    except OSError:
        return False
    return any(runtime in groups for runtime in _RUNTIMES)
