"""Redis or Valkey, by redis_exporter: of Debian (1.45) as well as upstream. Only metrics that both have."""

from observability.grafana.generator.boards.common import RUNBOOK, SHARE_USED, UP, YES
from observability.grafana.generator.model import HALF, Board, Panel, Query, Row
from observability.grafana.generator.panels import lines, number
from observability.grafana.generator.queries import per_second
from observability.grafana.generator.variables import instance_of

ITS = 'job="redis", instance=~"$instance"'
CLIENTS = 'service=~".+"'


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-redis",
        title="Redis",
        description="Pages of users, where short links lead, clicks, rate limits, and the gateway's announcements. The "
        "storefront works without it: slower, and with limits that each worker counts by itself.",
        folder="stores",
        variables=(instance_of("redis_up"),),
        restarts='service=~"user|gateway|links"',
        items=(*_now(), Row("As the services see it"), *_seen(), Row("Work"), *_work(), Row("Room"), *_room()),
    )


def _now() -> tuple[Panel, ...]:
    hits, misses = (f"sum({per_second(f'redis_keyspace_{name}_total', ITS)})" for name in ("hits", "misses"))
    return (
        number(
            "Redis",
            "none",
            # An exporter whose server hangs says nothing: then it is the scrape that failed.
            Query(f"min(redis_up{{{ITS}}} or on (instance) up{{{ITS}}})", "up"),
            good="up.",
            act="down: answers go on, from PostgreSQL. See its log, then its memory.",
            names=UP,
            links=(RUNBOOK,),
        ),
        number(
            "Memory used",
            "percentunit",
            Query(f"max(redis_memory_used_bytes{{{ITS}}} / (redis_memory_max_bytes{{{ITS}}} > 0))", "of maxmemory"),
            good="below 80 % of maxmemory. No data: it has no limit, and should have one.",
            act="it will evict what was not used for longest. More memory, or a shorter USER_CACHE_TTL_SECONDS.",
            steps=SHARE_USED,
            nothing="no limit",
            links=(RUNBOOK,),
        ),
        number(
            "Hit ratio",
            "percentunit",
            Query(f"{hits} / ({hits} + {misses})", "hits"),
            good="above 80 % under load; low with few requests, as pages live for a minute.",
            act="many writes make pages out of date, or nobody asks twice.",
            decimals=1,
        ),
        number(
            "Connections used",
            "percentunit",
            Query(f"max(redis_connected_clients{{{ITS}}} / redis_config_maxclients{{{ITS}}})", "of maxclients"),
            good="far below the limit.",
            act="connections are not closed: see which service's file descriptors grow.",
            steps=SHARE_USED,
            decimals=1,
        ),
        number(
            "Evicted",
            "cps",
            Query(f"sum({per_second('redis_evicted_keys_total', ITS)})", "keys"),
            good="none.",
            act="memory is full. Rate limits and pages are lost early, nothing else.",
            steps=((0.001, "orange"), (10, "red")),
            links=(RUNBOOK,),
        ),
        number(
            "Saved",
            "none",
            Query(f"min(redis_rdb_last_bgsave_status{{{ITS}}})", "last save"),
            good="yes: the last save to disk went well.",
            act="no: the disk is full or not writable. Nothing in Redis is irreplaceable.",
            names=YES,
        ),
    )


def _seen() -> tuple[Panel, ...]:
    return (
        lines(
            "Look-ups by result",
            "ops",
            Query(
                f"sum by (service, result) ({per_second('cache_requests_total', CLIENTS)})", "{{service}} {{result}}"
            ),
            good="mostly hit, no bypass.",
            act="bypass: that service does without Redis now, as calls failed or took longer than REDIS_TIMEOUT_MS.",
            width=HALF,
            links=(RUNBOOK,),
        ),
        lines(
            "Redis is there for",
            "none",
            Query(f"min by (service, instance) (cache_connected{{{CLIENTS}}})", "{{service}} {{instance}}"),
            good="1 for all.",
            act="0 for one: its network, or its password. 0 for all: Redis.",
            maximum=1,
            width=HALF,
            links=(RUNBOOK,),
        ),
    )


def _work() -> tuple[Panel, ...]:
    calls = f"sum by (cmd) ({per_second('redis_commands_total', ITS)})"
    return (
        lines(
            "Commands",
            "ops",
            Query(f"topk(10, {calls} > 0)", "{{cmd}}"),
            good="get, set, hmget and evals that follow the requests.",
            act="keys or scan: not ours, somebody looks around. A flood of one command: see which service's "
            "requests grow.",
        ),
        lines(
            "Time of a command",
            "s",
            Query(
                f"topk(10, sum by (cmd) ({per_second('redis_commands_duration_seconds_total', ITS)}) / ({calls} > 0))",
                "{{cmd}}",
            ),
            good="tens of microseconds.",
            act="a slow one stops all others, as there is one thread: SLOWLOG GET names it.",
            steps=((0.01, "red"),),
        ),
        lines(
            "CPU",
            "none",
            Query(
                f"sum by (instance) ({per_second('redis_cpu_user_seconds_total', ITS)}"
                f" + {per_second('redis_cpu_sys_seconds_total', ITS)})",
                "{{instance}}",
            ),
            good="cores in use, below 0.8: it has one thread for commands.",
            act="at 1 it has no more to give. Fewer look-ups, or one instance more for one of the services.",
            steps=((0.8, "orange"), (1, "red")),
        ),
        lines(
            "Network",
            "Bps",
            Query(f"sum by (instance) ({per_second('redis_net_input_bytes_total', ITS)})", "{{instance}} in"),
            Query(f"sum by (instance) ({per_second('redis_net_output_bytes_total', ITS)})", "{{instance}} out"),
            good="follows the requests.",
            act="large pages: fewer users on a page, or less asked for.",
        ),
        lines(
            "Clients",
            "short",
            Query(f"sum by (instance) (redis_connected_clients{{{ITS}}})", "{{instance}} connected"),
            Query(f"sum by (instance) (redis_blocked_clients{{{ITS}}})", "{{instance}} blocked"),
            Query(
                f"sum by (instance) (increase(redis_rejected_connections_total{{{ITS}}}[$__rate_interval]))",
                "{{instance}} rejected",
            ),
            good="at most replicas x workers x REDIS_POOL_SIZE, and a subscription a worker; none rejected.",
            act="rejected: maxclients is reached.",
        ),
        lines(
            "Keys gone",
            "cps",
            Query(f"sum by (instance) ({per_second('redis_expired_keys_total', ITS)})", "{{instance}} expired"),
            Query(f"sum by (instance) ({per_second('redis_evicted_keys_total', ITS)})", "{{instance}} evicted"),
            good="expired, as pages and limits do; none evicted.",
            act="evicted: memory is full.",
            links=(RUNBOOK,),
        ),
    )


def _room() -> tuple[Panel, ...]:
    return (
        lines(
            "Memory",
            "bytes",
            Query(f"sum by (instance) (redis_memory_used_bytes{{{ITS}}})", "{{instance}} used"),
            Query(f"sum by (instance) (redis_memory_used_rss_bytes{{{ITS}}})", "{{instance}} resident"),
            Query(f"sum by (instance) (redis_memory_max_bytes{{{ITS}}})", "{{instance}} limit"),
            good="used below the limit; resident not much above used.",
            act="resident far above used: fragmented, MEMORY PURGE helps.",
            width=HALF,
            links=(RUNBOOK,),
        ),
        lines(
            "Keys",
            "short",
            Query(f"sum by (instance, db) (redis_db_keys{{{ITS}}} > 0)", "{{instance}} {{db}}"),
            good="thousands; all but a few expire.",
            act="it grows for days: keys without an end, which none of ours is.",
            width=HALF,
        ),
    )
