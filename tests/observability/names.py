"""Which metrics there are: our own, by the code, and those of others that rules, alerts and the runbook go by."""

import re
from collections.abc import Iterator, Sequence
from functools import cache

import yaml

from tests.observability.promtool import ROOT, rule_files
from tests.observability.queries import Expression, Node, parse

OTHERS = frozenset(
    {
        # Prometheus gives these itself.
        "ALERTS",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "up",
        # The same in Debian's versions (Prometheus 2.42, Alertmanager 0.25; exporters: postgres 0.11, redis 1.45,
        # node 1.5, blackbox 0.23) and in those of docker-compose.yml.
        "alertmanager_config_last_reload_successful",
        "alertmanager_notifications_failed_total",
        "alertmanager_notifications_total",
        "node_filesystem_avail_bytes",
        "node_filesystem_files",
        "node_filesystem_files_free",
        "node_filesystem_size_bytes",
        "pg_database_size_bytes",
        "pg_settings_max_connections",
        "pg_stat_activity_count",
        "pg_up",
        "probe_http_duration_seconds",
        "probe_http_status_code",
        "probe_ssl_earliest_cert_expiry",
        "probe_success",
        "prometheus_config_last_reload_successful",
        "prometheus_notifications_alertmanagers_discovered",
        "prometheus_notifications_dropped_total",
        "prometheus_notifications_errors_total",
        "prometheus_rule_evaluation_failures_total",
        "prometheus_rule_group_iterations_missed_total",
        "prometheus_rule_group_last_duration_seconds",
        "prometheus_sd_dns_lookup_failures_total",
        "prometheus_tsdb_storage_blocks_bytes",
        "redis_db_keys",
        "redis_evicted_keys_total",
        "redis_memory_max_bytes",
        "redis_memory_used_bytes",
        "redis_up",
        # Loki 3, Promtail 3.6, Alloy 1.
        "loki_discarded_samples_total",
        "loki_write_dropped_entries_total",
        "loki_write_sent_entries_total",
        "promtail_dropped_entries_total",
        "promtail_sent_entries_total",
    }
)


def metrics_in(expressions: Sequence[Expression]) -> Iterator[tuple[Expression, set[str]]]:
    """Each PromQL expression and the names of the metrics that it selects, by name or by `__name__`."""
    parsed = parse("promql", [found.text for found in expressions])
    for found, got in zip(expressions, parsed, strict=True):
        assert got.tree is not None, f"{found.where}: {got.error}"
        yield found, set(_names(got.tree))


def _names(tree: Node) -> Iterator[str]:
    for selector in tree.all("VectorSelector"):
        if selector.children and selector.children[0].name == "Identifier":
            yield selector.children[0].text
        for pattern in re.findall(r'__name__=~"([^"]+)"', selector.text):
            yield from _alternatives(pattern)


def _alternatives(pattern: str) -> list[str]:
    """`(a|b)_c|d` is a_c, b_c and d."""
    if found := re.fullmatch(r"(.*)\(([^()]*)\)(.*)", pattern):
        return [name for one in found[2].split("|") for name in _alternatives(found[1] + one + found[3])]
    return pattern.split("|")


def ours(name: str) -> bool:
    """Whether there is such a metric: in the services' code, among what is recorded, or among the `OTHERS`."""
    if name in OTHERS or name in _recorded():
        return True
    base = re.sub(r"_(bucket|count|sum|total)$", "", name)
    generic = re.sub(r"^(catalogue|gateway|links|user)_(?=http_)", "{service}_", base)
    return any(f'"{one}{suffix}"' in _code() for one in (base, generic) for suffix in ("", "_total"))


@cache
def _recorded() -> set[str]:
    files = [yaml.safe_load(path.read_text("utf-8")) for path in rule_files()]
    return {rule.get("record", "") for file in files for group in file["groups"] for rule in group["rules"]}


@cache
def _code() -> str:
    places = (ROOT / "chassis" / "src", *(ROOT / "services").glob("*/src"))
    return "\n".join(path.read_text("utf-8") for place in places for path in sorted(place.rglob("*.py")))
