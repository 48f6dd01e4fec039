"""PostgreSQL, by postgres_exporter: of Debian (0.11) as well as upstream. Only metrics that both have."""

from observability.grafana.generator.boards.common import LOGS, RUNBOOK, SHARE_USED, UP
from observability.grafana.generator.model import HALF, Board, Panel, Query, Row
from observability.grafana.generator.panels import lines, number
from observability.grafana.generator.queries import per_second, quantile
from observability.grafana.generator.variables import choice, instance_of

ITS = 'job="postgres", instance=~"$instance"'
DATABASE = f'{ITS}, datname=~"$datname"'


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-postgres",
        title="PostgreSQL",
        description="The server of all services: is it there, has it room, and what is it busy with?",
        folder="stores",
        variables=(
            instance_of("pg_up"),
            choice(
                "datname",
                'label_values(pg_stat_database_xact_commit{datname!~"template.*|"}, datname)',
                label="Database",
            ),
        ),
        restarts='service=~"catalogue|user|gateway|links"',
        items=(*_now(), Row("As the services see it"), *_seen(), Row("Work"), *_work(), Row("Room"), *_room()),
    )


def _now() -> tuple[Panel, ...]:
    return (
        number(
            "PostgreSQL",
            "none",
            # An exporter whose server hangs says nothing: then it is the scrape that failed.
            Query(f"min(pg_up{{{ITS}}} or on (instance) up{{{ITS}}})", "up"),
            good="up.",
            act="down: see the server's log and its disk. Catalogue answers from its file, user answers what "
            "is cached.",
            names=UP,
            links=(RUNBOOK,),
        ),
        number(
            "Connections used",
            "percentunit",
            Query(
                f"sum by (instance) (pg_stat_activity_count{{{ITS}}})"
                f" / max by (instance) (pg_settings_max_connections{{{ITS}}})",
                "{{instance}}",
            ),
            good="below 80 %. The services' pools together are bounded: replicas x workers x DB_POOL_SIZE.",
            act="more replicas than the server has connections for, or somebody's session. See Connections by state.",
            steps=SHARE_USED,
            links=(RUNBOOK,),
        ),
        number(
            "Longest transaction",
            "s",
            Query(f'max(pg_stat_activity_max_tx_duration{{{DATABASE}, state!="idle"}})', "longest"),
            good="below a second: the services bound every statement.",
            act="a person's session, or a migration. It keeps VACUUM from its work, and may hold locks.",
            steps=((30, "orange"), (300, "red")),
        ),
        number(
            "Read from memory",
            "percentunit",
            Query(
                f"sum({per_second('pg_stat_database_blks_hit', DATABASE)}) / (sum("
                f"{per_second('pg_stat_database_blks_hit', DATABASE)})"
                f" + sum({per_second('pg_stat_database_blks_read', DATABASE)}))",
                "hits",
            ),
            good="above 99 %.",
            act="the working set no longer fits: more shared_buffers, or a query that reads whole tables.",
            base="red",
            steps=((0.9, "orange"), (0.99, "green")),
            decimals=1,
        ),
        number(
            "Deadlocks",
            "cps",
            Query(f"sum({per_second('pg_stat_database_deadlocks', DATABASE)})", "deadlocks"),
            good="none.",
            act="two kinds of transactions lock in different order: the server's log names both.",
            steps=((0.001, "red"),),
        ),
        number(
            "Size",
            "bytes",
            Query(f"sum(pg_database_size_bytes{{{DATABASE}}})", "databases"),
            good="far below the disk.",
            act="see Size by database, and the disk on Self-monitoring.",
        ),
    )


def _seen() -> tuple[Panel, ...]:
    clients = 'service=~".+"'
    return (
        lines(
            "Wait for a pooled connection, 99th percentile",
            "s",
            Query(quantile(0.99, "db_pool_wait_seconds", clients, "service, le"), "{{service}}"),
            good="a few milliseconds.",
            act="one service: its pool is too small or its statements are slow. All: the server is.",
            steps=((0.1, "red"),),
            links=(RUNBOOK,),
        ),
        lines(
            "Connections failed or lost",
            "cps",
            Query(f"sum by (service) ({per_second('db_connection_errors_total', clients)})", "{{service}}"),
            good="at zero.",
            act="a restart, a network that fails, or no connection left. The services' logs say which.",
            links=(LOGS, RUNBOOK),
        ),
        lines(
            "Statements of the services",
            "ops",
            Query(f"sum by (service) ({per_second('db_queries_total', clients)})", "{{service}}"),
            good="follow the requests.",
            act="more statements at the same traffic: the caches do not hold.",
        ),
    )


def _work() -> tuple[Panel, ...]:
    return (
        lines(
            "Transactions",
            "ops",
            Query(f"sum by (datname) ({per_second('pg_stat_database_xact_commit', DATABASE)})", "{{datname}} commit"),
            Query(
                f"sum by (datname) ({per_second('pg_stat_database_xact_rollback', DATABASE)})", "{{datname}} rollback"
            ),
            good="few rollbacks.",
            act="rollbacks grow: conflicts of writes, or statements that ran out of time.",
        ),
        lines(
            "Connections by state",
            "short",
            Query(f"sum by (state) (pg_stat_activity_count{{{DATABASE}}})", "{{state}}"),
            good="mostly idle: pools keep them ready.",
            act="idle in transaction: a client that forgot to end it. Many active: slow statements, or locks.",
            stacked=True,
        ),
        lines(
            "Locks held",
            "short",
            Query(f"sum by (mode) (pg_locks_count{{{DATABASE}}})", "{{mode}}"),
            good="share locks, come and gone.",
            act="accessexclusivelock that stays: a migration or VACUUM FULL stops everybody else.",
        ),
        lines(
            "Rows read",
            "cps",
            Query(f"sum by (datname) ({per_second('pg_stat_database_tup_returned', DATABASE)})", "{{datname}} scanned"),
            Query(f"sum by (datname) ({per_second('pg_stat_database_tup_fetched', DATABASE)})", "{{datname}} by index"),
            good="scanned and fetched are of one size.",
            act="scanned is a hundred times more: a query without its index.",
        ),
        lines(
            "Rows written",
            "wps",
            *(
                Query(
                    f"sum by (datname) ({per_second(f'pg_stat_database_tup_{done}', DATABASE)})", "{{datname}} " + done
                )
                for done in ("inserted", "updated", "deleted")
            ),
            good="follows sign-ups and changes of routes.",
            act="a flood of writes: see which service's statements grow with it.",
        ),
        lines(
            "Blocks read from the system, and spilled to disk",
            "short",
            Query(f"sum by (datname) ({per_second('pg_stat_database_blks_read', DATABASE)})", "{{datname}} blocks/s"),
            Query(
                f"sum by (datname) ({per_second('pg_stat_database_temp_files', DATABASE)})",
                "{{datname}} temporary files/s",
            ),
            good="near zero after the start.",
            act="temporary files: a sort or a hash that does not fit into work_mem.",
        ),
    )


def _room() -> tuple[Panel, ...]:
    return (
        lines(
            "Size by database",
            "bytes",
            Query(f"sum by (datname) (pg_database_size_bytes{{{DATABASE}}})", "{{datname}}"),
            good="grows with users and routes, slowly.",
            act="the outbox of the gateway, or saved answers to Idempotency-Keys, are not cleared.",
            width=HALF,
        ),
        lines(
            "Connections by database, and the limit",
            "short",
            Query(f"sum by (datname) (pg_stat_activity_count{{{DATABASE}}})", "{{datname}}"),
            Query(f"max(pg_settings_max_connections{{{ITS}}})", "max_connections"),
            good="the sum stays below the limit even while services are replaced, when two of each run.",
            act="raise max_connections, or lower DB_POOL_SIZE.",
            width=HALF,
            links=(RUNBOOK,),
        ),
    )
