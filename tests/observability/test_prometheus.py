"""Prometheus' configuration, rules and alerts, with Prometheus' own tools."""

from pathlib import Path

import pytest

from tests.observability.promtool import configurations, promtool, rule_files, unit_tests

pytestmark = pytest.mark.rules


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", rule_files(), ids=_name)
def test_rules_are_valid(path: Path) -> None:
    """promtool accepts every file of rules, and none has the same rule twice."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.parametrize("path", unit_tests(), ids=_name)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """Alerts stay silent, fire and survive a counter reset; recording rules give the values that are written down."""
    promtool("test", "rules", path)


@pytest.mark.parametrize("path", configurations(), ids=_name)
def test_configuration_is_valid(path: Path) -> None:
    """Prometheus would load the configuration. The credentials that Kubernetes gives to a pod are not here."""
    promtool("check", "config", "--lint=all", "--lint-fatal", *["--syntax-only"] * (path.stem == "kubernetes"), path)
