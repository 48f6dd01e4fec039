"""A service: rate, errors, duration, saturation. The same dashboard for each."""

from collections.abc import Callable

from observability.grafana.generator.boards.common import (
    GATEWAY,
    POSTGRES,
    PYTHON,
    REDIS,
    RUNBOOK,
    SHARE_USED,
    budget,
    errors_of,
    logs_of,
)
from observability.grafana.generator.model import HALF, QUARTER, SIXTH, THIRD, Board, Panel, Query, Row
from observability.grafana.generator.panels import lines, number, states
from observability.grafana.generator.queries import (
    LATENCY_OBJECTIVE_S,
    NOT_ASKED_FOR,
    events,
    per_second,
    quantile,
    quantiles,
)
from observability.grafana.generator.services import Service
from observability.grafana.generator.variables import choice


def board(service: Service) -> Board:
    """The dashboard of that service."""
    return Board(
        uid=f"storefront-service-{service.name}",
        title=f"Service {service.name}",
        description=f"{service.about} From symptom to cause: objectives, requests, then what it waits for and "
        f"lives on.",
        folder="storefront",
        variables=(
            choice("instance", f'label_values(build_info{{service="{service.name}"}}, instance)', label="Instance"),
        ),
        restarts=_selector(service),
        tags=("service",),
        items=(
            *_symptoms(service),
            Row("Requests"),
            *_requests(service),
            Row("What it waits for"),
            *(_database(service) if service.database else ()),
            *(_cache(service) if service.cache else ()),
            *EXTRAS.get(service.name, lambda: ())(),
            Row("What it lives on"),
            *_process(service),
        ),
    )


def _selector(service: Service) -> str:
    return f'service="{service.name}", instance=~"$instance"'


def _asked(service: Service) -> str:
    return f'{_selector(service)}, endpoint!~"{NOT_ASKED_FOR}"'


def _symptoms(service: Service) -> tuple[Panel, ...]:
    its = f'service="{service.name}"'
    return (
        budget("availability", its, width=SIXTH),
        budget("latency", its, width=SIXTH),
        number(
            "Requests",
            "reqps",
            Query(f"service:http_requests:rate5m{{{its}}}", "requests"),
            good="as on other days at this hour.",
            act="none at all: the gateway sends nothing here. See its upstreams.",
            nothing="no requests",
            links=(GATEWAY,),
        ),
        number(
            "Failed",
            "percentunit",
            Query(f"service:http_errors:ratio_rate5m{{{its}}}", "5xx"),
            good="below 0.1 %: answers that are no 5xx.",
            act="the panel Failures has the status, Errors by type the reason, the logs the lines.",
            steps=((0.001, "orange"), (0.01, "red")),
            decimals=2,
            nothing="no requests",
            links=(errors_of(service.name), RUNBOOK),
        ),
        number(
            "Slower than 300 ms",
            "percentunit",
            Query(f"service:http_slow:ratio_rate5m{{{its}}}", "slow"),
            good="below 1 %.",
            act="see which endpoint it is below, then whether the pool or the CPU is used up.",
            steps=((0.01, "orange"), (0.05, "red")),
            decimals=2,
            nothing="no requests",
            links=(logs_of(service.name), RUNBOOK),
        ),
        number(
            "Instances up",
            "short",
            Query(f'sum(up{{job="{service.name}", service="{service.name}", instance=~"$instance"}})', "up"),
            good="as many as were started.",
            act="the runbook has TargetDown and TargetMissing; the logs say why the process ended.",
            base="red",
            steps=((1, "green"),),
            links=(logs_of(service.name), RUNBOOK),
        ),
    )


def _requests(service: Service) -> tuple[Panel, ...]:
    requests, duration = f"{service.name}_http_requests_total", f"{service.name}_http_request_duration_seconds"
    asked, there = _asked(service), _selector(service)
    failures = f'{asked}, status=~"5.."'
    return (
        lines(
            "Requests by endpoint",
            "reqps",
            Query(f"sum by (endpoint) ({per_second(requests, asked)})", "{{endpoint}}"),
            good="the mix is as usual. Probes and metrics are left out.",
            act="one endpoint that grows alone is a client gone wild, or a crawler: see who in the logs.",
            stacked=True,
            links=(logs_of(service.name),),
        ),
        lines(
            "Failures",
            "reqps",
            Query(events(requests, failures, "status", there), "{{status}}"),
            good="at zero.",
            act="503: saturated, or a store is away; 504: a deadline passed; 500: a bug, with a traceback in the logs.",
            steps=((0.1, "red"),),
            links=(errors_of(service.name), RUNBOOK),
        ),
        lines(
            "Durations",
            "s",
            *quantiles(duration, asked),
            good="p99 below 0.3 s (the line).",
            act="p50 rises as well: everything is slow, look at CPU and pool. Only p99: one endpoint, or one store "
            "that stalls now and then.",
            steps=((LATENCY_OBJECTIVE_S, "red"),),
            links=(logs_of(service.name), RUNBOOK),
        ),
        lines(
            "95th percentile by endpoint",
            "s",
            Query(quantile(0.95, duration, asked, "endpoint, le"), "{{endpoint}}"),
            good="each below 0.3 s (the line).",
            act="the slow one by name; its slowest lines are in the logs.",
            steps=((LATENCY_OBJECTIVE_S, "red"),),
            links=(logs_of(service.name),),
        ),
        lines(
            "Refused",
            "reqps",
            Query(events(requests, f'{asked}, status=~"4.."', "status", there), "{{status}}"),
            good="a small share of the requests; 404s come from crawlers.",
            act="a rise after a deploy of a client: it sends what we do not take. 401 and 403: keys. 429: limits.",
            links=(logs_of(service.name),),
        ),
        lines(
            "Errors by type",
            "cps",
            Query(events("app_errors_total", there, "type", there), "{{type}}"),
            good="at zero. These are errors on our side, also those that shoppers did not notice.",
            act="the type is an exception's or a problem's name; look for it in the logs.",
            links=(errors_of(service.name),),
        ),
    )


def _database(service: Service) -> tuple[Panel, ...]:
    its = _selector(service)
    return (
        lines(
            "Database pool in use",
            "percentunit",
            Query(
                f'sum by (instance) (db_pool_connections{{{its}, state="in_use"}})'
                f" / sum by (instance) (db_pool_size{{{its}}})",
                "{{instance}}",
            ),
            good="below 80 %. A look every 30 s, so short peaks do not show; the wait beside it has them.",
            act="at 100 % requests wait, then get 503. Slow statements hold connections: see PostgreSQL. If "
            "that is fine, "
            "DB_POOL_SIZE is too small for the load.",
            steps=SHARE_USED,
            maximum=1,
            width=THIRD,
            links=(POSTGRES, RUNBOOK),
        ),
        lines(
            "Wait for a connection",
            "s",
            *quantiles("db_pool_wait_seconds", its),
            good="p99 of a few milliseconds.",
            act="waits grow before the pool is used up for good: see its use, and long transactions in PostgreSQL.",
            steps=((0.1, "red"),),
            width=THIRD,
            links=(POSTGRES, RUNBOOK),
        ),
        lines(
            "Statements, and connections lost",
            "ops",
            Query(f"sum({per_second('db_queries_total', its)})", "statements"),
            Query(f"sum({per_second('db_connection_errors_total', its)})", "connections that failed or were lost"),
            good="statements follow the requests; no connection is lost.",
            act="lost connections: PostgreSQL restarts, is away, or has no connection left.",
            width=THIRD,
            links=(POSTGRES, RUNBOOK),
        ),
    )


def _cache(service: Service) -> tuple[Panel, ...]:
    its = _selector(service)
    return (
        lines(
            "Cache in Redis",
            "ops",
            Query(f"sum by (result) ({per_second('cache_requests_total', its)})", "{{result}}"),
            good="mostly hit; bypass at zero.",
            act="bypass: Redis is away, and answers come from PostgreSQL. Misses grow: the working set does not fit, "
            "or many writes make pages out of date.",
            stacked=True,
            width=HALF,
            links=(REDIS, RUNBOOK),
        ),
        lines(
            "Redis is there",
            "none",
            Query(f"min by (instance) (cache_connected{{{its}}})", "{{instance}}"),
            good="at 1. Requests go on without it.",
            act="at 0 for more than a minute: see Redis, then the network between.",
            maximum=1,
            width=HALF,
            links=(REDIS, RUNBOOK),
        ),
    )


def _process(service: Service) -> tuple[Panel, ...]:
    its = _selector(service)
    return (
        lines(
            "CPU",
            "none",
            Query(f"sum by (instance) ({per_second('process_cpu_seconds_total', its)})", "{{instance}}"),
            good="cores in use, well below the number of workers (WEB_CONCURRENCY).",
            act="at the number of workers it has no more to give: more replicas, or see what became expensive.",
            width=QUARTER,
            links=(PYTHON,),
        ),
        lines(
            "Memory",
            "bytes",
            Query(f"max by (instance) (process_resident_memory_bytes{{{its}}})", "{{instance}}"),
            good="flat after the first minutes. Shared pages count once.",
            act="a slope is a leak: compare with the marks of deploys. Restart the instance before its limit does.",
            width=QUARTER,
            links=(PYTHON, RUNBOOK),
        ),
        lines(
            "File descriptors in use",
            "percentunit",
            Query(
                f"max by (instance) (process_open_fds{{{its}}} / process_max_fds{{{its}}})",
                "{{instance}}",
            ),
            good="a few per cent.",
            act="connections are not closed, or the limit is too low: see the Python runtime.",
            steps=SHARE_USED,
            maximum=1,
            width=QUARTER,
            links=(PYTHON, RUNBOOK),
        ),
        lines(
            "Uptime",
            "s",
            Query(f"min by (instance) (app_uptime_seconds{{{its}}})", "{{instance}}"),
            good="grows.",
            act="a saw is a crash loop: the last lines before each start are in the logs.",
            width=QUARTER,
            links=(logs_of(service.name), RUNBOOK),
        ),
    )


def _catalogue() -> tuple[Panel, ...]:
    its = 'service="catalogue", instance=~"$instance"'
    return (
        states(
            "Where products come from",
            Query(f"max by (source) (catalogue_data_source{{{its}}})", "{{source}}"),
            good="db, or json where that is configured.",
            act="json-fallback: the database is lost, shoppers get what the file knows. See PostgreSQL.",
            names={0: ("not in use", "text"), 1: ("in use", "blue")},
            width=HALF,
            height=7,
            links=(POSTGRES, RUNBOOK),
        ),
        lines(
            "Answered from the file instead",
            "reqps",
            Query(f"sum by (instance) ({per_second('catalogue_fallback_answers_total', its)})", "{{instance}}"),
            good="at zero.",
            act="the database failed these requests: `Database error` in the logs says how.",
            width=QUARTER,
            height=7,
            links=(logs_of("catalogue"), RUNBOOK),
        ),
        lines(
            "Products",
            "short",
            Query(f"max by (instance) (catalogue_products_total{{{its}}})", "{{instance}}"),
            good="as many as the shop has, the same for all instances.",
            act="fewer at once: an import went wrong, or the file stands in for the database.",
            width=QUARTER,
            height=7,
            links=(logs_of("catalogue"),),
        ),
    )


def _links() -> tuple[Panel, ...]:
    its = 'service="links", instance=~"$instance"'
    followed = f'{its}, endpoint="redirect", method="GET"'
    return (
        lines(
            "Links followed",
            "reqps",
            Query(f"sum by (status) ({per_second('links_http_requests_total', followed)})", "{{status}}"),
            good="302, each of them a click. Some 404 and 410: mistyped, expired or switched off.",
            act="many 404: somebody tries codes, or what was printed is wrong. 503: PostgreSQL is away, and Redis does "
            "not know the link.",
            stacked=True,
            width=HALF,
            height=7,
            links=(logs_of("links"), RUNBOOK),
        ),
        lines(
            "QR pictures",
            "ops",
            Query(f"sum by (result) ({per_second('links_qr_total', its)})", "{{result}}"),
            good="mostly kept: from the bucket or directory of pictures. Drawn: the first time. Bypass at zero.",
            act="bypass: the store of pictures is away, and each is drawn anew, which takes CPU. Drawn all the time: "
            "it loses them, or each instance has a directory of its own.",
            stacked=True,
            width=HALF,
            height=7,
            links=(logs_of("links"),),
        ),
    )


EXTRAS: dict[str, Callable[[], tuple[Panel, ...]]] = {"catalogue": _catalogue, "links": _links}
