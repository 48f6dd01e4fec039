"""Self-monitoring: what watches the storefront, and the machine that all of it runs on."""

from observability.grafana.generator.boards.common import RUNBOOK, SHARE_USED, UP
from observability.grafana.generator.model import HALF, QUARTER, Board, Panel, Query, Row
from observability.grafana.generator.panels import lines, number, states
from observability.grafana.generator.queries import per_second
from observability.grafana.generator.variables import choice

JOB = 'job=~"$job", instance=~"$instance"'
PROMETHEUS = 'job="prometheus"'
ALERTMANAGER = 'job="alertmanager"'
LOKI, GRAFANA = 'job="loki"', 'job="grafana"'
IDLE = 'job="node", mode="idle"'
SHIPPER = 'job=~"promtail|alloy"'
DISK = 'job="node", fstype!~"tmpfs|ramfs|overlay|squashfs|fuse.*|nsfs"'


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-monitoring",
        title="Self-monitoring",
        description="Prometheus, Alertmanager, Loki, what ships logs, Grafana, and the machine. When this dashboard is "
        "empty, Prometheus itself is down.",
        folder="platform",
        variables=(
            choice("job", "label_values(up, job)", label="Job"),
            choice("instance", 'label_values(up{job=~"$job"}, instance)', label="Instance"),
        ),
        restarts='service=~".+"',
        items=(
            *_now(),
            Row("Targets"),
            *_targets(),
            Row("Rules and alerts"),
            *_alerting(),
            Row("Logs and Grafana"),
            *_logs(),
            Row("Prometheus' own room, and the machine"),
            *_machine(),
        ),
    )


def _now() -> tuple[Panel, ...]:
    return (
        number(
            "Targets down",
            "short",
            Query("count(up) - sum(up)", "down"),
            good="none.",
            act="the band below that is red names it; TargetDown in the runbook.",
            steps=((1, "red"),),
            links=(RUNBOOK,),
        ),
        number(
            "Rules that fail",
            "cps",
            Query(f"sum({per_second('prometheus_rule_evaluation_failures_total', PROMETHEUS)})", "failures"),
            good="none.",
            act="alerts may be blind: Prometheus' page /rules names the rule and its error.",
            steps=((0.0001, "red"),),
            links=(RUNBOOK,),
        ),
        number(
            "Alerts firing",
            "short",
            Query('count(ALERTS{alertstate="firing"})', "firing"),
            good="1: Watchdog.",
            act="none: alerting is broken. More: Storefront SLO lists them.",
            base="red",
            steps=((1, "green"), (2, "orange")),
            nothing="none, broken",
            links=(RUNBOOK,),
        ),
        number(
            "Notifications lost",
            "cps",
            Query(
                f"sum({per_second('prometheus_notifications_dropped_total', PROMETHEUS)})"
                f" + sum({per_second('alertmanager_notifications_failed_total', ALERTMANAGER)})",
                "lost",
            ),
            good="none.",
            act="nobody is told of alerts: Alertmanager's log says why. NotificationsFailing in the runbook.",
            steps=((0.0001, "red"),),
            links=(RUNBOOK,),
        ),
        number(
            "Log lines lost",
            "cps",
            Query(
                'sum(rate({__name__=~"promtail_dropped_entries_total|loki_write_dropped_entries_total", '
                f"{SHIPPER}}}[$__rate_interval]))",
                "lost",
            ),
            good="none.",
            act="Loki refuses lines (too many, too old, too long), or is away. LogsNotShipped in the runbook.",
            steps=((0.001, "red"),),
            links=(RUNBOOK,),
        ),
        number(
            "Configuration loaded",
            "none",
            Query(
                f"min(prometheus_config_last_reload_successful{{{PROMETHEUS}}} or "
                f"alertmanager_config_last_reload_successful{{{ALERTMANAGER}}})",
                "loaded",
            ),
            good="yes, of Prometheus and of Alertmanager.",
            act="they go on with the old one: promtool and amtool check the new one.",
            names={0: ("no", "red"), 1: ("yes", "green")},
            links=(RUNBOOK,),
        ),
    )


def _targets() -> tuple[Panel, ...]:
    return (
        states(
            "Up",
            Query(f"min by (job, instance) (up{{{JOB}}})", "{{job}} {{instance}}"),
            good="all green, without gaps.",
            act="red: Prometheus cannot scrape it. A gap: Prometheus itself was away.",
            names=UP,
            width=HALF,
            height=10,
            links=(RUNBOOK,),
        ),
        lines(
            "Time of a scrape",
            "s",
            Query(f"max by (job) (scrape_duration_seconds{{{JOB}}})", "{{job}}"),
            good="far below the 10 s at which it is given up.",
            act="a slow target is often busy: see its CPU.",
            steps=((5, "orange"), (10, "red")),
            width=QUARTER,
            height=10,
        ),
        lines(
            "Samples of a scrape",
            "short",
            Query(f"sum by (job) (scrape_samples_post_metric_relabeling{{{JOB}}})", "{{job}}"),
            good="flat.",
            act="a slope: a label that takes new values all the time. Beyond the job's sample_limit the scrape fails.",
            width=QUARTER,
            height=10,
        ),
    )


def _alerting() -> tuple[Panel, ...]:
    return (
        lines(
            "Time that rules take, of their interval",
            "percentunit",
            Query(
                f"sum by (rule_group) (prometheus_rule_group_last_duration_seconds{{{PROMETHEUS}}})"
                f" / sum by (rule_group) (prometheus_rule_group_interval_seconds{{{PROMETHEUS}}})",
                "{{rule_group}}",
            ),
            good="a few per cent.",
            act="at 100 % evaluations are left out: a longer interval, or fewer series.",
            steps=SHARE_USED,
        ),
        lines(
            "Notifications",
            "cps",
            Query(f"sum({per_second('prometheus_notifications_sent_total', PROMETHEUS)})", "Prometheus sent"),
            Query(
                f"sum({per_second('prometheus_notifications_errors_total', PROMETHEUS)})", "Prometheus failed to send"
            ),
            Query(
                f"sum by (integration) ({per_second('alertmanager_notifications_total', ALERTMANAGER)}) > 0"
                f" or sum({per_second('alertmanager_notifications_total', ALERTMANAGER)})",
                "Alertmanager sent {{integration}}",
            ),
            Query(
                f"sum({per_second('alertmanager_notifications_failed_total', ALERTMANAGER)})",
                "Alertmanager failed to send",
            ),
            good="sent now and then, as Watchdog repeats; none fails.",
            act="the receiver is away or refuses: Alertmanager's log.",
            links=(RUNBOOK,),
        ),
        lines(
            "Alerts in Alertmanager",
            "short",
            Query(f"sum by (state) (alertmanager_alerts{{{ALERTMANAGER}}})", "{{state}}"),
            good="one active, Watchdog.",
            act="suppressed: silenced or inhibited. Silences that nobody remembers hide trouble.",
            links=(RUNBOOK,),
        ),
    )


def _logs() -> tuple[Panel, ...]:
    shipped = f'{{__name__=~"promtail_sent_entries_total|loki_write_sent_entries_total", {SHIPPER}}}'
    dropped = f'{{__name__=~"promtail_dropped_entries_total|loki_write_dropped_entries_total", {SHIPPER}}}'
    return (
        lines(
            "Log lines shipped",
            "cps",
            Query(f"sum by (job) (rate({shipped}[$__rate_interval]))", "{{job}} sent"),
            Query(f"sum by (job) (rate({dropped}[$__rate_interval]))", "{{job}} dropped"),
            Query(f"sum({per_second('loki_distributor_lines_received_total', LOKI)})", "Loki received"),
            good="received is what is sent; none dropped.",
            act="sent falls to zero while requests come: the shipper cannot read the containers' logs.",
            links=(RUNBOOK,),
        ),
        lines(
            "Answers of Loki",
            "reqps",
            Query(
                f"sum by (status_code) ({per_second('loki_request_duration_seconds_count', LOKI)})",
                "{{status_code}}",
            ),
            good="200 and 204.",
            act="429: more lines than its limits allow; 400: labels or times that it refuses; 5xx: its disk, "
            "or memory.",
            stacked=True,
            links=(RUNBOOK,),
        ),
        lines(
            "Answers of Grafana",
            "reqps",
            Query(
                f"sum by (status_code) ({per_second('grafana_http_request_duration_seconds_count', GRAFANA)})",
                "{{status_code}}",
            ),
            good="200 and 304.",
            act="401: somebody tries passwords. 5xx: a data source is away.",
            stacked=True,
        ),
    )


def _machine() -> tuple[Panel, ...]:
    return (
        lines(
            "Series, and samples a second",
            "short",
            Query(f"sum(prometheus_tsdb_head_series{{{PROMETHEUS}}})", "series"),
            Query(f"sum({per_second('prometheus_tsdb_head_samples_appended_total', PROMETHEUS)})", "samples/s"),
            good="flat; about 2 GiB of memory for each million series.",
            act="a slope: see Samples of a scrape.",
            width=QUARTER,
        ),
        lines(
            "Disk used",
            "percentunit",
            Query(
                f"max by (instance, mountpoint) (1 - node_filesystem_avail_bytes{{{DISK}}}"
                f" / node_filesystem_size_bytes{{{DISK}}})",
                "{{instance}} {{mountpoint}}",
            ),
            good="below 80 %.",
            act="DiskFillingUp in the runbook: what grows, and how much time is left.",
            steps=SHARE_USED,
            maximum=1,
            width=QUARTER,
            links=(RUNBOOK,),
        ),
        lines(
            "CPU and load of the machine",
            "percentunit",
            Query(
                f"1 - avg by (instance) ({per_second('node_cpu_seconds_total', IDLE)})",
                "{{instance}} CPU in use",
            ),
            Query(
                'sum by (instance) (node_load1{job="node"})'
                ' / count by (instance) (node_cpu_seconds_total{job="node", mode="idle"})',
                "{{instance}} load for each CPU",
            ),
            good="below 80 %.",
            act="the Python runtime has the services; what is left is somebody else.",
            steps=SHARE_USED,
            width=QUARTER,
        ),
        lines(
            "Memory used",
            "percentunit",
            Query(
                '1 - sum by (instance) (node_memory_MemAvailable_bytes{job="node"})'
                ' / sum by (instance) (node_memory_MemTotal_bytes{job="node"})',
                "{{instance}} machine",
            ),
            good="below 85 %.",
            act="the kernel will end the largest process. The Python runtime and Redis say who it is.",
            steps=SHARE_USED,
            maximum=1,
            width=QUARTER,
            links=(RUNBOOK,),
        ),
    )
