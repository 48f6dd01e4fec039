"""Gateway RED and routes: what shoppers see at the edge, where it went, and what the edge did about trouble."""

from observability.grafana.generator.boards.common import GATEWAY_LOGS, POSTGRES, REDIS, RUNBOOK, SLO, errors_of
from observability.grafana.generator.model import FULL, HALF, QUARTER, Board, Panel, Query, Row
from observability.grafana.generator.panels import lines, number, states
from observability.grafana.generator.queries import (
    LATENCY_OBJECTIVE_S,
    NOT_ASKED_FOR,
    events,
    per_second,
    quantile,
    quantiles,
    total,
)
from observability.grafana.generator.variables import choice

ITS = 'service="gateway", instance=~"$instance"'
ASKED = f'{ITS}, endpoint!~"{NOT_ASKED_FOR}"'
FAILED = f'{ASKED}, status=~"5.."'
UPSTREAM = f'{ITS}, upstream=~"$upstream"'
ROUTE = f'{ITS}, tenant=~"$tenant"'
ROUTE_FAILED = f'{ROUTE}, code="5xx"'
VERSION = "tenant, exported_service, env, version"
VERSION_NAME = "{{tenant}}/{{exported_service}} {{version}} ({{env}})"
DURATION = "gateway_http_request_duration_seconds"


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-gateway",
        title="Gateway RED and routes",
        description="Rate, errors and duration at the edge; how traffic is divided among versions; how the services "
        "behind do; what the edge turned away, cached and retried.",
        folder="storefront",
        variables=(
            choice("instance", 'label_values(build_info{service="gateway"}, instance)', label="Instance"),
            choice("tenant", 'label_values(gateway_route_requests_total{service="gateway"}, tenant)', label="Tenant"),
            choice(
                "upstream",
                'label_values(gateway_upstream_requests_total{service="gateway"}, upstream)',
                label="Upstream",
            ),
        ),
        restarts='service=~"gateway|catalogue|user|links"',
        items=(
            *_now(),
            Row("Requests at the edge"),
            *_requests(),
            Row("Routes: how traffic is divided"),
            *_routes(),
            Row("Services behind"),
            *_upstreams(),
            Row("What the edge does by itself"),
            *_edge(),
        ),
    )


def _now() -> tuple[Panel, ...]:
    return (
        number(
            "Requests",
            "reqps",
            Query(f"sum({per_second('gateway_http_requests_total', ASKED)})", "requests"),
            good="as on other days at this hour.",
            act="none: nothing reaches the gateway. See the probe on Storefront SLO.",
            links=(SLO,),
        ),
        number(
            "Failed",
            "percentunit",
            Query(
                f"({total('gateway_http_requests_total', FAILED, ITS)})"
                f" / sum({per_second('gateway_http_requests_total', ASKED)})",
                "5xx",
            ),
            good="below 0.1 %.",
            act="Failures has the status; Not answered has the service.",
            steps=((0.001, "orange"), (0.01, "red")),
            decimals=2,
            links=(errors_of("gateway"), RUNBOOK),
        ),
        number(
            "99th percentile",
            "s",
            Query(quantile(0.99, DURATION, ASKED), "p99"),
            good="below 0.3 s.",
            act="compare with the durations of the services: the edge itself adds about a millisecond.",
            steps=((LATENCY_OBJECTIVE_S, "orange"), (1, "red")),
            links=(GATEWAY_LOGS, RUNBOOK),
        ),
        number(
            "Breakers open",
            "short",
            Query(f"sum(gateway_breaker_open{{{UPSTREAM}}})", "open"),
            good="none.",
            act="the instances below are left alone, as they do not answer. The runbook has UpstreamBreakerOpen.",
            steps=((1, "red"),),
            links=(RUNBOOK,),
        ),
        number(
            "Turned away",
            "reqps",
            Query(total("gateway_shed_total", UPSTREAM, ITS), "shed"),
            good="none.",
            act="a service has more than it can answer in time. More replicas of it, or find what made it slow.",
            steps=((0.001, "orange"), (1, "red")),
            links=(RUNBOOK,),
        ),
        number(
            "Age of the routes",
            "s",
            Query(f"max(gateway_routes_age_seconds{{{ITS}}})", "age"),
            good="below a few seconds: PostgreSQL confirms them every half second.",
            act="it grows while PostgreSQL is away. Traffic flows on the last known routes, changes do not arrive.",
            steps=((10, "orange"), (60, "red")),
            links=(POSTGRES, RUNBOOK),
        ),
    )


def _requests() -> tuple[Panel, ...]:
    return (
        lines(
            "Requests by endpoint",
            "reqps",
            Query(f"sum by (endpoint) ({per_second('gateway_http_requests_total', ASKED)})", "{{endpoint}}"),
            good="the mix is as usual.",
            act="unmatched grows: a crawler or a scanner. One endpoint grows alone: a client gone wild, see "
            "who in the logs.",
            stacked=True,
            links=(GATEWAY_LOGS,),
        ),
        lines(
            "Failures",
            "reqps",
            Query(events("gateway_http_requests_total", FAILED, "status", ITS), "{{status}}"),
            good="at zero.",
            act="502: garbage from a service; 503: turned away, or nobody there; 504: too late. Not answered, "
            "below, has "
            "the service.",
            steps=((0.1, "red"),),
            links=(errors_of("gateway"), RUNBOOK),
        ),
        lines(
            "Durations",
            "s",
            *quantiles(DURATION, ASKED),
            good="p99 below 0.3 s (the line).",
            act="open the dashboard of the service that is slow, from the list at the top right.",
            steps=((LATENCY_OBJECTIVE_S, "red"),),
            links=(GATEWAY_LOGS, RUNBOOK),
        ),
    )


def _routes() -> tuple[Panel, ...]:
    requests = f"sum by ({VERSION}) ({per_second('gateway_route_requests_total', ROUTE)})"
    failed = f"sum by ({VERSION}) ({per_second('gateway_route_requests_total', ROUTE_FAILED)})"
    return (
        lines(
            "Requests by version",
            "reqps",
            Query(requests, VERSION_NAME),
            good="every active version gets what its weight says.",
            act="none for a new version: it is not active, has weight 0, or its instances are left alone.",
            stacked=True,
            links=(GATEWAY_LOGS,),
        ),
        lines(
            "Share of each version",
            "percentunit",
            Query(
                f"{requests} / on (tenant, exported_service, env) group_left ()"
                f" sum by (tenant, exported_service, env) ({per_second('gateway_route_requests_total', ROUTE)})",
                VERSION_NAME,
            ),
            good="a canary's share is its weight. It follows a change of weights within a second; this panel, within a "
            "minute or two.",
            act="off by much: clients name their version (X-Route-Version, X-Route-Key), or a version does not answer.",
            maximum=1,
        ),
        lines(
            "Failures of each version",
            "percentunit",
            Query(f"({failed} or 0 * {requests}) / {requests}", VERSION_NAME),
            good="a new version fails no more than the old one.",
            act="take the canary's weight back to 0 first, look for the reason then.",
            steps=((0.01, "red"),),
            links=(errors_of("gateway"), RUNBOOK),
        ),
    )


def _upstreams() -> tuple[Panel, ...]:
    lost = f'{UPSTREAM}, outcome!="answered"'
    return (
        lines(
            "Not answered",
            "reqps",
            Query(events("gateway_upstream_requests_total", lost, "upstream,outcome", ITS), "{{upstream}} {{outcome}}"),
            good="at zero but for abandoned: clients that left.",
            act="unreachable: nobody listens. died, garbage: it crashes. timeout: it hangs. saturated: it has enough. "
            "open: its breaker is.",
            links=(GATEWAY_LOGS, RUNBOOK),
        ),
        lines(
            "In flight, and connections",
            "short",
            Query(f"sum by (upstream) (gateway_upstream_in_flight{{{UPSTREAM}}})", "{{upstream}} in flight"),
            Query(
                f"sum by (upstream, state) (gateway_upstream_connections{{{UPSTREAM}}})",
                "{{upstream}} connections {{state}}",
            ),
            good="in flight is about rate times duration, and far below UPSTREAM_MAX_CONNECTIONS per worker.",
            act="it climbs while the rate does not: the service has become slow.",
            links=(RUNBOOK,),
        ),
        states(
            "Breakers",
            Query(
                f"max by (upstream, instance, exported_instance) (gateway_breaker_open{{{UPSTREAM}}})",
                "{{upstream}} {{exported_instance}} seen by {{instance}}",
            ),
            good="closed.",
            act="open: that instance is left alone and tried from time to time. See its own logs.",
            names={0: ("closed", "green"), 1: ("open", "red")},
            links=(RUNBOOK,),
        ),
        lines(
            "Sent again, and turned away",
            "reqps",
            Query(
                events("gateway_retries_total", UPSTREAM, "upstream,outcome", ITS), "{{upstream}} again: {{outcome}}"
            ),
            Query(events("gateway_shed_total", UPSTREAM, "upstream", ITS), "{{upstream}} turned away"),
            good="now and then one sent again, and answered. None turned away.",
            act="failed: it is not one bad instance but all of them. over_budget: more than RETRY_BUDGET_PERCENT would "
            "have been sent again. Turned away: that service cannot answer in time what it gets, see its CPU "
            "and its pool.",
            width=FULL,
            height=7,
            links=(RUNBOOK,),
        ),
    )


def _edge() -> tuple[Panel, ...]:
    cache = "gateway_cache_requests_total"
    served = f'{ITS}, result=~"hit|stale|revalidated|collapsed"'
    looked = f'{ITS}, result!="bypass"'
    return (
        lines(
            "Cache hit ratio",
            "percentunit",
            Query(f"sum({per_second(cache, served)}) / sum({per_second(cache, looked)})", "served from the cache"),
            good="above 80 % with shoppers about; none without requests.",
            act="many different queries, or a service no longer says public. stale in the panel beside it: the service "
            "behind fails, and shoppers do not notice yet.",
            maximum=1,
            width=QUARTER,
        ),
        lines(
            "Cache by result",
            "reqps",
            Query(f"sum by (result) ({per_second(cache, ITS)})", "{{result}}"),
            good="mostly hit.",
            act="stale: a service fails or is slow, see Not answered.",
            stacked=True,
            width=QUARTER,
        ),
        lines(
            "Cache memory",
            "bytes",
            Query(f"sum by (instance) (gateway_cache_bytes{{{ITS}}})", "{{instance}}"),
            good="below CACHE_BYTES times the number of workers.",
            act="at the limit with few hits: CACHE_BYTES is too small for what shoppers look at.",
            width=QUARTER,
        ),
        lines(
            "Refused at the door",
            "reqps",
            Query(events("gateway_rate_limited_total", ITS, "who,endpoint", ITS), "limit of {{who}}: {{endpoint}}"),
            Query(events("gateway_auth_failures_total", ITS, "reason", ITS), "key: {{reason}}"),
            good="near zero.",
            act="failures or unknown: somebody tries keys. address: one client sends too much, or many share "
            "an address.",
            width=QUARTER,
            links=(GATEWAY_LOGS, REDIS),
        ),
        lines(
            "Outbox",
            "s",
            Query(f"max by (instance) (kafka_outbox_oldest_seconds{{{ITS}}})", "{{instance}} oldest event"),
            good="at zero, or without Kafka wherever it is.",
            act="it grows: Kafka is away, or nobody sends (Events, leader). None is lost meanwhile.",
            width=HALF,
            height=7,
            links=(RUNBOOK,),
        ),
        lines(
            "Events",
            "short",
            Query(f"sum(kafka_outbox_events{{{ITS}}})", "waiting"),
            Query(f"sum(kafka_relay_leader{{{ITS}}})", "workers that send"),
            Query(f"sum(increase(kafka_events_published_total{{{ITS}}}[$__rate_interval]))", "published"),
            Query(f"sum(increase(kafka_events_failed_total{{{ITS}}}[$__rate_interval]))", "failed"),
            good="with Kafka: one worker sends, nothing waits for long, none fails.",
            act="failed: Kafka refuses or is away. No worker sends: see OutboxWithoutLeader in the runbook.",
            width=HALF,
            height=7,
            links=(RUNBOOK,),
        ),
    )
