"""Runs promtool over what is in `observability/prometheus`; where those files are."""

import os
import subprocess
from pathlib import Path

import pytest

from chassis.testing import require

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "observability" / "prometheus"

_FRUGAL = {"GOGC": "400", "GOMAXPROCS": "1"}
"""Go collects garbage on every core, which pytest's workers need: this takes a third off the CPU time."""


def configurations() -> list[Path]:
    """Prometheus' own configurations: for Compose and for Kubernetes."""
    return [PROMETHEUS / "prometheus.yml", PROMETHEUS / "kubernetes.yml"]


def alert_files() -> list[Path]:
    """The files with alerts, sorted."""
    return sorted((PROMETHEUS / "alerts").glob("*.yml"))


def rule_files() -> list[Path]:
    """Every file that Prometheus loads rules from, recording rules first."""
    return [*sorted((PROMETHEUS / "rules").glob("*.yml")), *alert_files()]


def unit_tests() -> list[Path]:
    """The files for `promtool test rules`, sorted."""
    return sorted((PROMETHEUS / "tests").glob("*.yml"))


def promtool(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """What promtool prints on stdout. A test fails with all its output where it says that something is wrong, and is
    skipped (with `CI` set: fails) where it is not installed.
    """
    command = [require("promtool"), *map(str, arguments)]
    environment = {**os.environ, **_FRUGAL}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(['promtool', *command[1:]])}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout
