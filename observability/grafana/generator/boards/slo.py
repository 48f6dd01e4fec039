"""Storefront SLO: is the storefront good enough, and how fast is that changing?"""

from observability.grafana.generator.boards.common import GATEWAY, LOGS_OF_THE_CHOSEN, MONITORING, RUNBOOK, UP, budget
from observability.grafana.generator.model import HALF, THIRD, Board, Panel, Query, Row
from observability.grafana.generator.panels import lines, states, table
from observability.grafana.generator.variables import SERVICE

CHOSEN = 'service=~"$service"'
WINDOWS = ("5m", "30m", "1h", "6h", "3d")
BURN_STEPS = ((1.0, "yellow"), (6.0, "orange"), (14.4, "red"))


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-slo",
        title="Storefront SLO",
        description="Objectives: 99.9 % of requests without a 5xx, 99 % within 300 ms, over 30 days, for each service "
        "and for the edge (the gateway, which is what shoppers see).",
        folder="storefront",
        variables=(SERVICE,),
        restarts=CHOSEN,
        since="now-6h",
        items=(
            budget("availability", CHOSEN, width=HALF, height=5, named=True),
            budget("latency", CHOSEN, width=HALF, height=5, named=True),
            _alerts(),
            _probe(),
            Row("How fast the budget goes: 1 uses it up in exactly 30 days"),
            _burn("availability", "http_errors"),
            _burn("latency", "http_slow"),
            Row("What the objectives are about"),
            lines(
                "Requests",
                "reqps",
                Query(f"service:http_requests:rate5m{{{CHOSEN}}}", "{{service}}"),
                good="follows the time of day.",
                act="a sudden fall with few errors: requests do not arrive. Look at the probe, then at what is "
                "in front "
                "of the gateway. A sudden rise: see who asks, on the Gateway dashboard.",
                links=(GATEWAY,),
            ),
            lines(
                "Failed requests",
                "percentunit",
                Query(f"service:http_errors:ratio_rate5m{{{CHOSEN}}}", "{{service}}"),
                good="below 0.1 % (the line).",
                act="the service behind the edge that fails as well is the cause; if only the gateway fails, "
                "look at its "
                "upstreams. Then the errors in the logs.",
                steps=((0.001, "red"),),
                links=(GATEWAY, LOGS_OF_THE_CHOSEN, RUNBOOK),
            ),
            lines(
                "Requests slower than 300 ms",
                "percentunit",
                Query(f"service:http_slow:ratio_rate5m{{{CHOSEN}}}", "{{service}}"),
                good="below 1 % (the line).",
                act="a slow service makes the gateway slow: start with the service behind. Its own dashboard "
                "says whether "
                "it waits for PostgreSQL, or has no CPU left.",
                steps=((0.01, "red"),),
                links=(GATEWAY, LOGS_OF_THE_CHOSEN, RUNBOOK),
            ),
            Row("30 days"),
            _left("availability"),
            _left("latency"),
            lines(
                "95th percentile of durations",
                "s",
                Query(f"service:http_request_duration_seconds:p95_5m{{{CHOSEN}}}", "{{service}}"),
                good="far below 0.3 s (the line).",
                act="see which endpoint it is on the service's own dashboard.",
                steps=((0.3, "red"),),
                links=(LOGS_OF_THE_CHOSEN,),
            ),
        ),
    )


def _alerts() -> Panel:
    return table(
        "Alerts",
        "none",
        Query('max by (alertname, severity, service, instance, alertstate) (ALERTS{alertstate=~"firing|pending"})'),
        good="one row, Watchdog: it always fires, so that its silence is noticed.",
        act="no row at all: alerting itself is broken, see Self-monitoring. Any other row: its section of the runbook "
        "says what it means and what to do. severity critical pages, warning is a ticket.",
        columns={
            "alertname": "Alert",
            "severity": "Severity",
            "service": "Service",
            "instance": "Instance",
            "alertstate": "State",
        },
        width=16,
        height=9,
        links=(RUNBOOK, MONITORING),
    )


def _probe() -> Panel:
    return states(
        "Tried from outside",
        Query('min by (module, instance) (probe_success{job="probe"})', "{{module}} {{instance}}"),
        good="up, without a gap. It is a request as a shopper sends it, every 30 s.",
        act="down while the services look well: the way to the gateway is broken (name, port, certificate), or nothing "
        "reaches it.",
        names=UP,
        width=8,
        height=9,
        links=(RUNBOOK,),
    )


def _burn(slo: str, what: str) -> Panel:
    return lines(
        f"Burn rate: {slo}",
        "none",
        *(
            Query(
                f'service:{what}:ratio_rate{window}{{{CHOSEN}}} / scalar(1 - slo:objective{{slo="{slo}"}})',
                "{{service}} " + window,
            )
            for window in WINDOWS
        ),
        good="below 1 in the long windows. Alerts compare a long window with a short one, so that they end soon after "
        "the trouble does.",
        act="above 14.4 (a page) the budget of 30 days is gone in two days, above 6 (a page) in five, above 1 "
        "before the "
        "month is over (a ticket). Find the service that burns, then the panels below.",
        width=HALF,
        height=9,
        steps=BURN_STEPS,
        links=(LOGS_OF_THE_CHOSEN, RUNBOOK),
    )


def _left(slo: str) -> Panel:
    return lines(
        f"Error budget left over time: {slo}",
        "percentunit",
        Query(f"service:slo_{slo}:error_budget_left{{{CHOSEN}}}", "{{service}}"),
        good="falls slowly, and rises again as old trouble leaves the 30 days.",
        act="a step down is an incident: the marks show whether a deploy began it.",
        width=THIRD,
        minimum=None,
        maximum=1,
        base="red",
        steps=((0.0, "orange"), (0.25, "green")),
        links=(RUNBOOK,),
    )
