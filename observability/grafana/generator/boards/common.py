"""Ways between dashboards, and values that several of them show."""

from observability.grafana.generator.model import Link, Panel, Query
from observability.grafana.generator.panels import Steps, number

RUNBOOK = Link("Runbook", "storefront-runbook", "")
LOGS = Link("Logs", "storefront-logs")
LOGS_OF_THE_CHOSEN = Link("Logs", "storefront-logs", "${service:queryparam}&${__url_time_range}")
GATEWAY_LOGS = Link("Logs of the gateway", "storefront-logs", "var-service=gateway&${__url_time_range}")
SLO = Link("Objectives", "storefront-slo", "${__url_time_range}")
GATEWAY = Link("Gateway", "storefront-gateway")
POSTGRES = Link("PostgreSQL", "storefront-postgres")
REDIS = Link("Redis", "storefront-redis")
PYTHON = Link("Python runtime", "storefront-python")
MONITORING = Link("Self-monitoring", "storefront-monitoring")

SHARE_USED: Steps = ((0.8, "orange"), (0.95, "red"))
UP = {0: ("down", "red"), 1: ("up", "green")}
YES = {0: ("no", "red"), 1: ("yes", "green")}


def logs_of(service: str) -> Link:
    """The way to a service's logs, at the same time."""
    return Link("Logs", "storefront-logs", f"var-service={service}&${{__url_time_range}}")


def errors_of(service: str) -> Link:
    """The way to a service's errors in the logs, at the same time."""
    return Link("Errors in the logs", "storefront-logs", f"var-service={service}&var-level=error&${{__url_time_range}}")


def budget(slo: str, selector: str, *, width: int, height: int = 4, named: bool = False) -> Panel:
    """What is left of an error budget: `slo` is `availability` or `latency`."""
    what = {
        "availability": "one request in a thousand may fail (5xx)",
        "latency": "one request in a hundred may take longer than 300 ms",
    }[slo]
    return number(
        f"Error budget left: {slo}",
        "percentunit",
        Query(f"service:slo_{slo}:error_budget_left{{{selector}}}", "{{service}}"),
        good=f"well above 0 %. In 30 days {what}; 100 % means that none has.",
        act="below 25 %, put risky changes off; below 0 %, the objective is broken: work on reliability comes first. "
        "The burn rates say whether it is still getting worse. It is made of whole hours: the first hour has none yet.",
        width=width,
        height=height,
        base="red",
        steps=((0, "orange"), (0.25, "green")),
        decimals=1,
        named=named,
        nothing="none yet",
        links=(SLO, RUNBOOK),
    )
