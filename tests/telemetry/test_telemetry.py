"""Prometheus and the logs beside a whole storefront that has seen traffic of every kind, and faults of every kind."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from chassis.testing import require, wait_until
from tests.telemetry import expressions, joins, labels, matrix, traffic
from tests.telemetry.stage import Stage, running

pytestmark = pytest.mark.slow

CHECKS: tuple[Callable[[Stage], list[str]], ...] = (
    matrix.check_matrix,
    matrix.check_events,
    expressions.check_seed,
    expressions.check_recorded,
    expressions.check_delivery,
    expressions.check_expressions,
    joins.check_ids,
    joins.check_trace,
    joins.check_lines,
    labels.check_labels,
)


@pytest.fixture
def stage(servers_directory: Path) -> Iterator[Stage]:
    """The storefront with what watches it, after the traffic."""
    for tool in ("prometheus", "prometheus-alertmanager"):
        require(tool)
    for exporter in ("postgres", "redis", "node", "blackbox"):
        require(f"prometheus-{exporter}-exporter")
    with running(servers_directory / "telemetry") as stage:
        traffic.drive(stage)
        _wait_for_rules(stage)
        yield stage


def test_what_operators_see(stage: Stage, subtests: pytest.Subtests) -> None:
    """Each signal arrives, each query gives data, each log line can be joined. The checks' docstrings say it in detail;
    they are one test because what they look at takes half a minute to set up.
    """
    for check in CHECKS:
        with subtests.test(check.__name__):
            wrong = check(stage)
            assert not wrong, "\n".join(wrong)


def _wait_for_rules(stage: Stage) -> None:
    """Until every target was scraped and every rule evaluated after the traffic, and rules that build on others too."""
    for newest in ("timestamp(up)", "prometheus_rule_group_last_evaluation_timestamp_seconds"):
        end_s = stage.value("time()")
        wait_until(partial(stage.query, f"min({newest}) > {end_s}"), timeout_s=30, interval_s=0.3, what=newest)
    wait_until(lambda: not expressions.check_recorded(stage), timeout_s=30, interval_s=0.3, what="rules without data")
