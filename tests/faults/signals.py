"""What tells of a fault: a metric that moves, a log line, an alert. All three must, while it lasts.

A real Prometheus looks at every program of a stage once a second, with the scrape configuration, the recording rules
and the alerts of this repository, in a hurry (`tests.observability.faster`).
"""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from chassis.testing import GunicornProcess, free_port, require, wait_until
from stack.observe_tools import EXPORTERS, exporter, prometheus
from tests.faults.stage import Stage
from tests.observability.faster import hasty
from tests.observability.notified import running
from tests.observability.promtool import PROMETHEUS, rule_files
from tests.promises import Promise

TELL_S = 20.0
"""So long a fault is kept up for all that should tell of it. In production an alert waits for minutes, on purpose."""
_EXPORTED: dict[str, tuple[str, ...]] = {
    "redis": (),
    "postgres": ("--disable-default-metrics", "--disable-settings-metrics"),
    "node": ("--collector.disable-defaults", "--collector.filesystem"),
}
"""Exporters beside the services, and what they are told besides."""
QUIET_S = 30.0
"""In which what told of the fault before has fallen silent."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What tells of a fault. None: that nobody need be told.

    Attributes:
        metric: PromQL that has a value while the fault lasts, and none without it.
        log: a service, and what one of its instances says then.
        alerts: each an alert's name, with labels in braces if it is one of several.
    """

    metric: str | None
    log: tuple[str, str] | None
    alerts: tuple[str, ...] = ()


@dataclass
class Heard:
    """After how many seconds of a fault what was heard of it; what was not is not in it."""

    signal: Signal
    after_s: dict[str, float] = field(default_factory=dict)

    @property
    def wanted(self) -> list[str]:
        """All that must be heard."""
        found = [self.signal.metric] if self.signal.metric else []
        found += [f"{self.signal.log[0]}: {self.signal.log[1]} …"] if self.signal.log else []
        return [*found, *self.signal.alerts]

    def say(self, promise: Promise, fault: str) -> None:
        """Add the row to the table."""
        heard = [
            f"{what} after {self.after_s[what]:.1f} s" if what in self.after_s else f"NOT {what}"
            for what in self.wanted
        ]
        promise(
            fault,
            "metric, log line and alert tell of it" if self.signal.alerts else "it can be seen; nobody is called",
            "; ".join(heard),
            holds=all(what in self.after_s for what in self.wanted),
        )


class Watch:
    """The Prometheus beside a stage."""

    def __init__(self, stage: Stage, url: str) -> None:
        self._stage = stage
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What it says now, one dictionary a series with `metric` and `value`. Raises OSError if it refuses."""
        body = urllib.parse.urlencode({"query": expression}).encode()
        with urllib.request.urlopen(f"{self._url}/api/v1/query", body, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def raised(self, alert: str) -> bool:
        """Whether an alert is pending or firing."""
        name, _, labels = alert.partition("{")
        return bool(self.query(f'ALERTS{{alertname="{name}"{"," + labels if labels else "}"}'))

    @contextmanager
    def told(self, heard: Heard, fault: AbstractContextManager[object]) -> Iterator[None]:
        """Enter the fault, which nothing may tell of before; leave it when all has, after TELL_S at the latest."""
        signal = heard.signal
        self.wait_quiet(signal)
        before = {program.process: len(program.process.lines) for program in self._stage.programs}
        began_s = time.monotonic()
        checks: dict[str, Callable[[], bool]] = {alert: partial(self.raised, alert) for alert in signal.alerts}
        if signal.metric:
            checks[signal.metric] = lambda: bool(self.query(str(signal.metric)))
        if signal.log:
            service, text = signal.log
            checks[f"{service}: {text} …"] = lambda: self._is_logged(service, text, before)

        def all_told() -> bool:
            for what, check in checks.items():
                if what not in heard.after_s and check():
                    heard.after_s[what] = time.monotonic() - began_s
            return len(heard.after_s) == len(checks)

        with fault:
            yield
            while not all_told() and time.monotonic() < began_s + TELL_S:
                time.sleep(0.1)

    def wait_quiet(self, signal: Signal) -> None:
        """Wait until nothing of it is to be heard. Raises TimeoutError."""

        def is_quiet() -> bool:
            told = signal.metric is not None and bool(self.query(signal.metric))
            return not told and not any(map(self.raised, signal.alerts))

        wait_until(is_quiet, timeout_s=QUIET_S, interval_s=0.2, what=f"silence about {signal}")

    def _is_logged(self, service: str, text: str, before: dict[GunicornProcess, int]) -> bool:
        return any(
            text in line
            for program in self._stage.programs
            if program.service == service
            for line in program.process.lines[before.get(program.process, 0) :]
        )


@contextmanager
def watching(stage: Stage) -> Iterator[Watch]:
    """A Watch that has seen every program."""
    directory = stage.directory / "prometheus"
    directory.mkdir()
    port, targets = free_port(), dict[str, list[str]]()
    with ExitStack() as stack:
        for one in EXPORTERS:
            if one.job in _EXPORTED:
                own_port = free_port()
                targets[one.job] = [f"127.0.0.1:{own_port}"]
                urls = {"REDIS_URL": stage.redis.url, "DATABASE_URL": stage.postgres.url}
                export = exporter(one, require(one.package), port=own_port, urls=urls, blackbox=directory)
                arguments = [*export.arguments, *_EXPORTED[one.job]]
                ready = f"http://127.0.0.1:{own_port}/metrics"
                stack.enter_context(running(one.job, arguments, ready, directory, env=export.environment))
        require("prometheus")
        command = prometheus(_configured(stage, directory, targets), directory / "data", port=port)
        stack.enter_context(running("prometheus", command.arguments, f"{command.url}/-/ready", directory))
        watch = Watch(stage, command.url)
        programs = len(stage.programs)
        wait_until(lambda: len(watch.query('up{service!=""} == 1')) == programs, timeout_s=30, what="all are scraped")
        yield watch


def _configured(stage: Stage, directory: Path, others: dict[str, list[str]]) -> Path:
    """The repository's configuration, with every program of the stage for a target, and rules that are in a hurry."""
    for path in rule_files():
        (directory / path.parent.name).mkdir(exist_ok=True)
        (directory / path.parent.name / path.name).write_text(hasty(path.read_text(encoding="utf-8")))
    document = yaml.safe_load(hasty((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")))
    targets = {**others}
    for program in stage.programs:
        targets.setdefault(program.service, []).append(f"127.0.0.1:{program.port}")
    jobs = []
    for job in document["scrape_configs"]:
        if job["job_name"] in targets:
            job.pop("dns_sd_configs", None)
            jobs.append(job | {"static_configs": [{"targets": targets[job["job_name"]]}]})
    document |= {"scrape_configs": jobs, "alerting": {}}
    file = directory / "prometheus.json"
    file.write_text(json.dumps(document))
    return file
