"""Logs: how many, how bad, which errors, and all lines of one request or one trace."""

from observability.grafana.generator.boards.common import PYTHON, RUNBOOK, SLO
from observability.grafana.generator.model import HALF, QUARTER, Board, Link, Panel, Row
from observability.grafana.generator.panels import lines, log_lines, number, table
from observability.grafana.generator.queries import logs
from observability.grafana.generator.variables import entry, log_choice

LINES = '{service=~"$service", level=~"$level"}'
ALL_LEVELS = '{service=~"$service"}'
ERRORS = '{service=~"$service", level=~"error|critical"}'
EVERYWHERE = '{service=~".+"}'
GATEWAY = Link("Gateway", "storefront-gateway")


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-logs",
        title="Logs",
        description="Paste a request id (every answer and every problem has one: X-Request-ID, request_id) or "
        "a trace id "
        "above: the panels at the bottom show all its lines, of all services. A click on an id in a line does "
        "the same.",
        folder="platform",
        variables=(
            log_choice("service", label="Service"),
            log_choice("level", label="Level", or_none=True),
            entry("search", label="Text"),
            entry("request_id", label="Request id"),
            entry("trace_id", label="Trace id"),
        ),
        restarts='service=~".+"',
        items=(
            *_volume(),
            Row("Errors"),
            *_errors(),
            Row("One request, over all services"),
            *_look_up(),
            Row("Lines"),
            log_lines(
                "Lines of the chosen services and levels, with the text",
                logs(LINES + " |~ `(?i)$search`"),
                good="what you look for. Text is a regular expression, upper and lower case are the same.",
                act="no line at all: Promtail does not ship, see Self-monitoring.",
            ),
        ),
    )


def _volume() -> tuple[Panel, ...]:
    return (
        number(
            "Lines",
            "cps",
            logs(f"sum(rate({ALL_LEVELS} [$__auto]))", "lines"),
            good="one for each request, and few others.",
            act="none: nothing is shipped, LogsNotShipped in the runbook. Many: somebody set LOG_LEVEL=DEBUG.",
            height=7,
            links=(RUNBOOK,),
        ),
        number(
            "Errors",
            "cps",
            logs(f"sum(rate({ERRORS} [$__auto])) or vector(0)", "errors"),
            good="none.",
            act="Most frequent errors, below, has their text.",
            height=7,
            steps=((0.01, "orange"), (1, "red")),
        ),
        lines(
            "Lines by level",
            "cps",
            logs(f"sum by (level) (rate({ALL_LEVELS} [$__auto]))", "{{level}}"),
            good="info, follows the requests.",
            act="warning or error grow: see below. debug: somebody set LOG_LEVEL=DEBUG.",
            stacked=True,
            width=10,
            height=7,
            links=(SLO,),
        ),
        lines(
            "Errors by service",
            "cps",
            logs(
                f"sum by (service) (rate({ERRORS} [$__auto])) or (0 * sum by (service) (rate({ALL_LEVELS} [$__auto])))",
                "{{service}}",
            ),
            good="at zero.",
            act="the service that fails first is the cause; the gateway's errors follow from it.",
            width=6,
            height=7,
            links=(RUNBOOK,),
        ),
    )


def _errors() -> tuple[Panel, ...]:
    status = f'{ALL_LEVELS} | json status="status", route="route" | status=~"5.." | __error__=""'
    duration = f'{ALL_LEVELS} | duration!="" | json route="route" | unwrap duration | __error__=""'
    return (
        table(
            "Most frequent errors",
            "short",
            logs(
                "topk(20, sum by (service, logger, message) (count_over_time("
                f'{ERRORS} | json message="message", logger="logger" | drop __error__, __error_details__ [$__range])))'
            ),
            good="empty.",
            act="start with the most frequent. Its lines: put a part of it into Text, above. Without a message: a "
            "line of a store, which is no JSON; choose its service above.",
            columns={
                "Value #A": "Lines",
                "service": "Service",
                "logger": "Logger",
                "message": "Message",
            },
            sort_by="Lines",
            width=HALF,
            height=9,
            links=(RUNBOOK,),
        ),
        lines(
            "Failed requests by route",
            "reqps",
            logs(f"sum by (service, route) (rate({status} [$__auto]))", "{{service}} {{route}}"),
            good="none.",
            act="the route says which code; one of its lines leads to the whole request by its id.",
            width=QUARTER,
            height=9,
            links=(GATEWAY,),
        ),
        lines(
            "Slowest requests by route",
            "ms",
            # Loki groups where the range is: outside of it there would be a series for every request first.
            logs(f"max_over_time({duration} [$__auto]) by (service, route)", "{{service}} {{route}}"),
            good="below 300 ms but for a few.",
            act='put `duration_ms":[3-9][0-9]{2}` into Text, above: a slow line leads to the whole request by its id.',
            steps=((300, "red"),),
            width=QUARTER,
            height=9,
            links=(GATEWAY, PYTHON),
        ),
    )


def _look_up() -> tuple[Panel, ...]:
    return (
        log_lines(
            "All lines of the request id",
            logs(f'{EVERYWHERE} | request_id!="" | request_id="$request_id"'),
            good="the gateway's line and those of the service behind, oldest first.",
            act="empty: no id above, another time range, or the lines have not been kept that long.",
            width=HALF,
            height=10,
            oldest_first=True,
        ),
        log_lines(
            "All lines of the trace id",
            logs(f'{EVERYWHERE} | trace_id!="" | trace_id="$trace_id"'),
            good="as beside. A trace may be several requests of one shopper.",
            act="empty: no id above, another time range, or the lines have not been kept that long.",
            width=HALF,
            height=10,
            oldest_first=True,
        ),
    )
