"""Python runtime: the processes of the services."""

from observability.grafana.generator.boards.common import LOGS_OF_THE_CHOSEN, RUNBOOK, SHARE_USED
from observability.grafana.generator.model import HALF, QUARTER, Board, Query, Row
from observability.grafana.generator.panels import lines, number, table
from observability.grafana.generator.queries import events, per_second
from observability.grafana.generator.variables import INSTANCE, SERVICE

ITS = 'service=~"$service", instance=~"$instance"'


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="storefront-python",
        title="Python runtime",
        description="What the services' processes use: gunicorn's master and its workers together. The number of "
        "workers is WEB_CONCURRENCY; it is no metric.",
        folder="platform",
        variables=(SERVICE, INSTANCE),
        restarts=ITS,
        since="now-3h",
        items=(
            number(
                "Instances up",
                "short",
                Query(f'sum(up{{{ITS}, job!="probe"}})', "up"),
                good="as many as were started.",
                act="TargetDown and TargetMissing in the runbook.",
                links=(RUNBOOK,),
            ),
            number(
                "Starts in the last hour",
                "short",
                Query(f"sum(changes(process_start_time_seconds{{{ITS}}}[1h]))", "starts"),
                good="none but for deploys, which are marked.",
                act="CrashLooping in the runbook; the last lines before each start are in the logs.",
                steps=((1, "orange"), (3, "red")),
                links=(LOGS_OF_THE_CHOSEN, RUNBOOK),
            ),
            number(
                "CPU",
                "none",
                Query(f"sum({per_second('process_cpu_seconds_total', ITS)})", "cores"),
                good="cores in use, below what the machine has.",
                act="see which service, and its CPU per request.",
                decimals=2,
            ),
            number(
                "Memory",
                "bytes",
                Query(f"sum(process_resident_memory_bytes{{{ITS}}})", "resident"),
                good="about 110 MiB for each instance with two workers.",
                act="see which instance, and its growth.",
                links=(RUNBOOK,),
            ),
            number(
                "Most file descriptors in use",
                "percentunit",
                Query(f"max(process_open_fds{{{ITS}}} / process_max_fds{{{ITS}}})", "of the limit"),
                good="a few per cent.",
                act="FileDescriptorsHigh in the runbook.",
                steps=SHARE_USED,
                decimals=1,
                links=(RUNBOOK,),
            ),
            number(
                "Youngest process",
                "s",
                Query(f"min(app_uptime_seconds{{{ITS}}})", "uptime"),
                good="hours or days.",
                act="seconds, again and again: it crashes.",
                links=(LOGS_OF_THE_CHOSEN,),
            ),
            table(
                "What is running",
                "none",
                Query(f"max by (service, instance, version, commit) (build_info{{{ITS}}})"),
                good="one version and commit a service, but for the minutes of a deploy.",
                act="an old one that stays: its instance was not replaced.",
                columns={"service": "Service", "instance": "Instance", "version": "Version", "commit": "Commit"},
                sort_by="Service",
                height=7,
            ),
            lines(
                "Uptime",
                "s",
                Query(f"min by (service, instance) (app_uptime_seconds{{{ITS}}})", "{{service}} {{instance}}"),
                good="a slope up.",
                act="a saw is a crash loop.",
                width=HALF,
                height=7,
                links=(LOGS_OF_THE_CHOSEN, RUNBOOK),
            ),
            Row("CPU"),
            lines(
                "CPU in use",
                "none",
                Query(
                    f"sum by (service, instance) ({per_second('process_cpu_seconds_total', ITS)})",
                    "{{service}} {{instance}}",
                ),
                good="cores, below WEB_CONCURRENCY: a worker has one.",
                act="a worker that is full answers late: more replicas, or see what became expensive.",
                width=HALF,
            ),
            lines(
                "CPU time of a request",
                "s",
                Query(
                    f"sum by (service) ({per_second('process_cpu_seconds_total', ITS)})"
                    ' / on (service) (service:http_requests:rate5m{service=~"$service"} > 0)',
                    "{{service}}",
                ),
                good="below a millisecond at the gateway, a few at the services, under load. Idle, the background work "
                "has nothing to be divided by.",
                act="a step up at a deploy is a regression: the marks say which one.",
                width=HALF,
            ),
            Row("Memory and descriptors"),
            lines(
                "Resident memory",
                "bytes",
                Query(
                    f"max by (service, instance) (process_resident_memory_bytes{{{ITS}}})", "{{service}} {{instance}}"
                ),
                good="flat after the first minutes. Pages that workers share count once, as in a container's limit.",
                act="a slope is a leak: see Growth.",
                width=QUARTER,
                links=(RUNBOOK,),
            ),
            lines(
                "Growth of memory",
                "Bps",
                Query(
                    f"max by (service, instance) (deriv(process_resident_memory_bytes{{{ITS}}}[1h]))",
                    "{{service}} {{instance}}",
                ),
                good="around zero.",
                act="steadily above: a leak. 1 KiB/s is 84 MiB a day.",
                minimum=None,
                width=QUARTER,
                links=(RUNBOOK,),
            ),
            lines(
                "Virtual memory",
                "bytes",
                Query(
                    f"max by (service, instance) (process_virtual_memory_bytes{{{ITS}}})", "{{service}} {{instance}}"
                ),
                good="flat; it is address space and costs nothing.",
                act="it climbs with threads that do not end.",
                width=QUARTER,
            ),
            lines(
                "File descriptors",
                "short",
                Query(f"max by (service, instance) (process_open_fds{{{ITS}}})", "{{service}} {{instance}}"),
                good="tens, and one for each connection.",
                act="a slope: connections or files are not closed.",
                width=QUARTER,
                links=(RUNBOOK,),
            ),
            Row("Health of the measuring itself"),
            lines(
                "Time of a scrape",
                "s",
                Query(
                    f'max by (service, instance) (scrape_duration_seconds{{{ITS}, job!="probe"}})',
                    "{{service}} {{instance}}",
                ),
                good="tens of milliseconds.",
                act="it grows with the files of dead workers in METRICS_DIR: they are wiped at a start.",
                steps=((1, "orange"), (8, "red")),
                width=HALF,
            ),
            lines(
                "Errors by type",
                "cps",
                Query(events("app_errors_total", ITS, "service,type", ITS), "{{service}} {{type}}"),
                good="at zero.",
                act="look for the type in the logs.",
                width=HALF,
                links=(LOGS_OF_THE_CHOSEN,),
            ),
        ),
    )
