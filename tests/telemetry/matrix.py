"""Which service emits which signal: what must arrive in Prometheus, with which labels, and what must have happened."""

from tests.telemetry.stage import Stage

SERVICES = ("gateway", "catalogue", "user", "links")

MATRIX = """
signal                                         gateway  catalogue  user  links
--------------------------------------------------------------------------------
<service>_http_requests_total                    x          x        x      x     endpoint method status
<service>_http_request_duration_seconds_bucket   x          x        x      x     endpoint le method
<service>_http_request_duration_seconds_sum      x          x        x      x     endpoint method
<service>_http_request_duration_seconds_count    x          x        x      x     endpoint method
process_cpu_seconds_total                        x          x        x      x
process_resident_memory_bytes                    x          x        x      x
process_virtual_memory_bytes                     x          x        x      x
process_open_fds                                 x          x        x      x
process_max_fds                                  x          x        x      x
process_start_time_seconds                       x          x        x      x
app_errors_total                                 x          x        x      x     type +service
app_uptime_seconds                               x          x        x      x
app_workers_lost_total                           x          x        x      x
build_info                                       x          x        x      x     commit version
db_pool_connections                              x          x        x      x     state
db_pool_size                                     x          x        x      x
db_pool_wait_seconds_bucket                      x          x        x      x     le
db_queries_total                                 x          x        x      x
db_connection_errors_total                       x          x        x      x
cache_requests_total                             x          -        x      x     result
cache_connected                                  x          -        x      x
catalogue_products_total                         -          x        -      -
catalogue_db_connection_status                   -          x        -      -
catalogue_data_source                            -          x        -      -     source
catalogue_fallback_answers_total                 -          x        -      -
links_qr_total                                   -          -        -      x     result
kafka_events_published_total                     x          -        -      -     action
kafka_events_failed_total                        x          -        -      -     action
kafka_outbox_events                              x          -        -      -
kafka_outbox_oldest_seconds                      x          -        -      -
kafka_relay_leader                               x          -        -      -
api_requests_total                               x          -        -      -     endpoint method status_code
api_request_duration_seconds_bucket              x          -        -      -     endpoint le method
gateway_route_requests_total                     x          -        -      -     cache code env tenant version +service
gateway_upstream_requests_total                  x          -        -      -     outcome upstream
gateway_upstream_in_flight                       x          -        -      -     upstream
gateway_upstream_connections                     x          -        -      -     state upstream
gateway_breaker_open                             x          -        -      -     upstream +instance
gateway_retries_total                            x          -        -      -     outcome upstream
gateway_shed_total                               x          -        -      -     upstream
gateway_cache_requests_total                     x          -        -      -     result
gateway_cache_bytes                              x          -        -      -
gateway_cache_entries                            x          -        -      -
gateway_cache_evictions_total                    x          -        -      -
gateway_rate_limited_total                       x          -        -      -     endpoint who
gateway_auth_failures_total                      x          -        -      -     reason
gateway_routes                                   x          -        -      -
gateway_routes_revision                          x          -        -      -
gateway_routes_age_seconds                       x          -        -      -
gateway_route_feed_errors_total                  x          -        -      -     source
"""
"""`x`: it must have it, `-`: it must not. Every series has `job`, `instance`, `service` and `app` from Prometheus'
configuration; the labels here are the service's own, with `+` where it has the same name as one of those.
"""

HAPPENED = (
    'gateway_http_requests_total{endpoint="products",status="200"}',
    'gateway_http_requests_total{endpoint="unmatched",status="404"}',
    'gateway_http_requests_total{endpoint="static",status="429"}',
    'gateway_http_requests_total{endpoint="users",status="503"}',
    'gateway_http_requests_total{endpoint="users",status="504"}',
    'catalogue_http_requests_total{endpoint="get_product",status="404"}',
    'user_http_requests_total{endpoint="create_user",status="201"}',
    'user_http_requests_total{status="500"}',
    'app_errors_total{service="user",type="UndefinedTable"}',
    'app_errors_total{service="gateway",type="unavailable"}',
    'db_connection_errors_total{service="catalogue"}',
    'cache_requests_total{service="user",result="hit"}',
    'cache_requests_total{service="user",result="miss"}',
    'cache_requests_total{service="user",result="bypass"}',
    "catalogue_fallback_answers_total",
    'gateway_http_requests_total{endpoint="redirect",status="302"}',
    'links_http_requests_total{endpoint="create_link",status="201"}',
    *(f'links_http_requests_total{{endpoint="redirect",status="{status}"}}' for status in (302, 404, 410, 503)),
    *(f'links_qr_total{{result="{result}"}}' for result in ("kept", "drawn", "bypass")),
    *(f'cache_requests_total{{service="links",result="{result}"}}' for result in ("hit", "miss", "bypass")),
    'app_errors_total{service="links",type="database-unavailable"}',
    'db_connection_errors_total{service="links"}',
    *(
        f'kafka_events_published_total{{action="{action}"}}'
        for action in ("created", "updated", "activated", "deactivated", "deleted")
    ),
    'api_requests_total{endpoint="create_route",status_code="201"}',
    'gateway_route_requests_total{cache="hit",code="2xx",exported_service="catalogue"}',
    'gateway_upstream_requests_total{outcome="timeout",upstream="user"}',
    'gateway_upstream_requests_total{outcome="open",upstream="user"}',
    'gateway_upstream_requests_total{outcome="saturated",upstream="user"}',
    'gateway_upstream_requests_total{outcome="garbage"}',
    'gateway_shed_total{upstream="user"}',
    *(f'gateway_retries_total{{outcome="{outcome}"}}' for outcome in ("answered", "failed", "over_budget")),
    *(
        f'gateway_cache_requests_total{{result="{result}"}}'
        for result in ("hit", "miss", "stale", "revalidated", "bypass")
    ),
    'gateway_rate_limited_total{who="address",endpoint="static"}',
    *(f'gateway_auth_failures_total{{reason="{reason}"}}' for reason in ("missing", "unknown", "ambiguous", "scope")),
    'gateway_route_feed_errors_total{source="redis"}',
)
"""Counters that the traffic must have moved: being there as 0 is not enough."""

_TARGET_LABELS = {"__name__", "job", "instance", "service", "app"}


def check_matrix(stage: Stage) -> list[str]:
    """Each signal arrives from each service that must have it, with its labels, and from no other."""
    wrong = []
    for line in MATRIX.strip().splitlines()[2:]:
        name, *cells = line.split()
        labels = {label.replace("+", "exported_") for label in cells[len(SERVICES) :]}
        for service, cell in zip(SERVICES, cells, strict=False):
            found = stage.query(f'{name.replace("<service>", service)}{{job="{service}"}}')
            if bool(found) != (cell == "x"):
                wrong.append(f"{service}: {name} is {'there' if found else 'missing'}")
            wrong += [
                f"{service}: {name} has the labels {sorted(series['metric'])}"
                for series in found
                if set(series["metric"]) != labels | _TARGET_LABELS
            ]
    return wrong


def check_events(stage: Stage) -> list[str]:
    """What has happened was counted, down to Prometheus."""
    return [name for name in HAPPENED if not stage.value(f"sum({name})") > 0]
