"""Load test: what somebody who puts load on the edge looks at."""

from observability.grafana.generator.boards.common import GATEWAY_LOGS, PYTHON, SHARE_USED
from observability.grafana.generator.model import GRAFANA, HALF, QUARTER, Board, Json, Panel, Query, Row
from observability.grafana.generator.panels import heatmap, lines, number
from observability.grafana.generator.queries import (
    LATENCY_OBJECTIVE_S,
    NOT_ASKED_FOR,
    events,
    per_second,
    quantile,
    quantiles,
    total,
)
from observability.grafana.generator.variables import INSTANCE, SERVICE

EDGE = f'service="gateway", endpoint!~"{NOT_ASKED_FOR}"'
FAILED = f'{EDGE}, status=~"5.."'
IDLE = 'job="node", mode="idle"'
POSTGRES, REDIS = 'job="postgres"', 'job="redis"'
THERE = 'service="gateway"'
ITS = 'service=~"$service", instance=~"$instance"'
DURATION = "gateway_http_request_duration_seconds"
REQUESTS = "gateway_http_requests_total"

RUNS: Json = {
    "datasource": GRAFANA,
    "enable": True,
    "hide": False,
    "iconColor": "purple",
    "name": "Load tests",
    "target": {"limit": 100, "matchAny": False, "refId": "Anno", "tags": ["load-test"], "type": "tags"},
}


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-load",
        title="Load test",
        description="The edge under load. A run is marked by an annotation with the tag load-test: "
        "`curl -u admin http://localhost:3000/api/annotations -H 'Content-Type: application/json' "
        """-d '{"tags":["load-test"],"text":"200 users"}'`. """
        "Service and instance choose whose saturation is shown.",
        folder="platform",
        variables=(SERVICE, INSTANCE),
        restarts=ITS,
        marks=(RUNS,),
        since="now-15m",
        refresh="10s",
        items=(*_now(), Row("What the testers see"), *_seen(), Row("What is full"), *_full()),
    )


def _now() -> tuple[Panel, ...]:
    return (
        number(
            "Offered",
            "reqps",
            Query(f"sum({per_second(REQUESTS, EDGE)})", "requests"),
            good="what the generator says it sends. Compare the two: if this is less, the generator or the network is "
            "the bottleneck.",
            act="see the generator's own CPU first.",
        ),
        *(
            number(
                name,
                "s",
                Query(quantile(share, DURATION, EDGE), name),
                good="below 0.3 s up to the load that was promised.",
                act="find what is full below.",
                steps=((LATENCY_OBJECTIVE_S, "orange"), (1, "red")),
                width=4,
            )
            for share, name in ((0.5, "Median"), (0.95, "95th percentile"), (0.99, "99th percentile"))
        ),
        number(
            "Failed",
            "percentunit",
            Query(f"({total(REQUESTS, FAILED, THERE)}) / sum({per_second(REQUESTS, EDGE)})", "5xx"),
            good="below 0.1 %; beyond the limit, 503 at once rather than late answers.",
            act="504 is worse than 503: something waits instead of refusing.",
            steps=((0.001, "orange"), (0.01, "red")),
            decimals=2,
            links=(GATEWAY_LOGS,),
        ),
        number(
            "In flight at the services",
            "short",
            Query('sum(gateway_upstream_in_flight{service="gateway"})', "requests"),
            good="rate times duration.",
            act="it climbs at a constant rate: a queue is building up.",
        ),
    )


def _seen() -> tuple[Panel, ...]:
    return (
        heatmap(
            "Durations",
            Query(f"sum by (le) (increase({DURATION}_bucket{{{EDGE}}}[$__rate_interval]))", "{{le}}"),
            good="one dark band far below 0.3 s; a second one is what the cache does not have.",
            act="a band that widens upwards: a queue. A gap in all bands: everything stood still, look for a "
            "stall of a "
            "store.",
        ),
        lines(
            "Durations by quantile",
            "s",
            *quantiles(DURATION, EDGE),
            good="p99 stays close to p50 as load grows, up to the knee.",
            act="the load at the knee is the capacity: note it, and what was full then.",
            width=HALF,
            height=9,
            steps=((LATENCY_OBJECTIVE_S, "red"),),
            log_scale=True,
        ),
        lines(
            "Answers by status",
            "reqps",
            Query(f"sum by (status) ({per_second(REQUESTS, EDGE)})", "{{status}}"),
            good="what the scenario expects.",
            act="429: limits count the tester's address, set RATE_LIMITS for the test. 499: the tester gave up "
            "waiting.",
            stacked=True,
            links=(GATEWAY_LOGS,),
        ),
        lines(
            "Requests by endpoint",
            "reqps",
            Query(f"sum by (endpoint) ({per_second(REQUESTS, EDGE)})", "{{endpoint}}"),
            good="the mix of the scenario.",
            act="an endpoint that falls behind holds its users up.",
            stacked=True,
        ),
        lines(
            "95th percentile by endpoint",
            "s",
            Query(quantile(0.95, DURATION, EDGE, "endpoint, le"), "{{endpoint}}"),
            good="each below 0.3 s (the line).",
            act="the slowest one says which service to look at.",
            steps=((LATENCY_OBJECTIVE_S, "red"),),
        ),
    )


def _full() -> tuple[Panel, ...]:
    return (
        lines(
            "CPU by service",
            "none",
            Query(
                f"sum by (service, instance) ({per_second('process_cpu_seconds_total', ITS)})",
                "{{service}} {{instance}}",
            ),
            good="cores in use; the sum is below what the machine has.",
            act="at the number of workers (WEB_CONCURRENCY) that service is the limit.",
            width=QUARTER,
            links=(PYTHON,),
        ),
        lines(
            "CPU of the machine",
            "percentunit",
            Query(
                f"1 - avg by (instance) ({per_second('node_cpu_seconds_total', IDLE)})",
                "{{instance}}",
            ),
            good="below 80 %.",
            act="full with the generator on the same machine: the figures are of both.",
            maximum=1,
            width=QUARTER,
            steps=SHARE_USED,
        ),
        lines(
            "Database pools in use",
            "percentunit",
            Query(
                f'sum by (service, instance) (db_pool_connections{{{ITS}, state="in_use"}})'
                f" / sum by (service, instance) (db_pool_size{{{ITS}}})",
                "{{service}} {{instance}}",
            ),
            good="below 80 %.",
            act="full: PostgreSQL is the limit, or the pool is.",
            maximum=1,
            width=QUARTER,
            steps=SHARE_USED,
        ),
        lines(
            "Wait for a connection, 99th percentile",
            "s",
            Query(quantile(0.99, "db_pool_wait_seconds", ITS, "service, le"), "{{service}}"),
            good="milliseconds.",
            act="near DB_POOL_WAIT_MS requests begin to get 503.",
            width=QUARTER,
        ),
        lines(
            "In flight by service",
            "short",
            Query('sum by (upstream) (gateway_upstream_in_flight{service="gateway"})', "{{upstream}}"),
            good="below UPSTREAM_MAX_CONNECTIONS per worker.",
            act="at the limit the edge turns requests away.",
            width=QUARTER,
        ),
        lines(
            "Refused by the edge",
            "reqps",
            Query(events("gateway_shed_total", THERE, "upstream", THERE), "turned away: {{upstream}}"),
            Query(events("gateway_rate_limited_total", THERE, "who", THERE), "limit of {{who}}"),
            Query(
                events("gateway_upstream_requests_total", THERE + ', outcome!="answered"', "upstream,outcome", THERE),
                "{{upstream}}: {{outcome}}",
            ),
            good="nothing up to the capacity, then turned away.",
            act="timeout instead of turned away: the service takes more than it can answer.",
            width=QUARTER,
        ),
        lines(
            "Stores",
            "ops",
            Query(f"sum({per_second('pg_stat_database_xact_commit', POSTGRES)})", "PostgreSQL transactions"),
            Query(f"sum({per_second('redis_commands_processed_total', REDIS)})", "Redis commands"),
            good="grow with the load, less than it as caches warm up.",
            act="one to one with the requests: the caches do not help this scenario.",
            width=QUARTER,
        ),
        lines(
            "Memory",
            "bytes",
            Query(f"max by (service, instance) (process_resident_memory_bytes{{{ITS}}})", "{{service}} {{instance}}"),
            good="flat after the first minute of load, and after the test where it was before.",
            act="it does not come down: take the figure before and after a second run.",
            width=QUARTER,
            links=(PYTHON,),
        ),
    )
