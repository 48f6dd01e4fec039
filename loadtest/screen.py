"""What a person sees of a run: a line every few seconds, and at the end what was measured."""

from __future__ import annotations

import sys

import gevent
from locust.env import Environment
from locust.runners import Runner
from locust.stats import StatsEntry

from loadtest import gate
from loadtest.gate import Check, Measured
from loadtest.histogram import minus, percentile
from loadtest.steering import Steering, look

EVERY_S = 5.0
MOST_FAILURES = 10


def say(text: str = "") -> None:
    """A line, at once: the output may be a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def progress(runner: Runner) -> None:
    """Write a line every few seconds, for as long as the greenlet lives."""
    begin = before = look(runner.stats)
    while True:
        gevent.sleep(EVERY_S)
        if runner.state not in ("spawning", "running"):
            continue
        now = look(runner.stats)
        if now.requests < before.requests:  # the web interface has begun anew
            begin = before = now
            continue
        rate = (now.requests - before.requests) / (now.at_s - before.at_s)
        times_ms = minus(now.times_ms, before.times_ms)
        say(
            f"{now.at_s - begin.at_s:5.0f} s  {runner.user_count:5d} users  {rate:7.1f} requests/s  "
            f"p50 {percentile(times_ms, 50):4.0f} ms  p99 {percentile(times_ms, 99):5.0f} ms  "
            f"{now.failures} failed"
        )
        before = now


def measured(environment: Environment) -> tuple[dict[str, Measured], Measured, float]:
    """Every entry of the statistics by `<method> <name>`, all of them together, and how long it took, s."""

    def of(entry: StatsEntry) -> Measured:
        times_ms = entry.response_times
        return Measured(entry.num_requests, entry.num_failures, percentile(times_ms, 95), percentile(times_ms, 99))

    stats = environment.stats
    seconds = (stats.last_request_timestamp or stats.start_time) - stats.start_time
    entries = {f"{method} {name}": of(entry) for (name, method), entry in stats.entries.items()}
    return entries, of(stats.total), seconds


def show(environment: Environment, checks: list[Check], *, exceptions: int) -> None:
    """The table, and what failed in which way."""
    say()
    say(gate.table(checks))
    failures = sorted(environment.stats.errors.values(), key=lambda error: -error.occurrences)
    if failures:
        say("\nfailures:")
    for failure in failures[:MOST_FAILURES]:
        # locust keeps CatchResponseError('text'), and so do its own reports.
        text = failure.parse_error(failure.error).removeprefix("CatchResponseError(").removesuffix(")").strip("'\"")
        say(f"  {failure.occurrences:5d}  {failure.method} {failure.name}: {text}")
    if len(failures) > MOST_FAILURES:
        say(f"  and {len(failures) - MOST_FAILURES} kinds more, in the reports")
    if exceptions:
        say(f"\nkinds of exceptions in the scenarios themselves: {exceptions}, in the log above and in the reports")


def show_ramp(steering: Steering) -> None:
    """Each step and the knee."""
    say("\nsteps:")
    for step in steering.steps:
        say(f"  {step}")
    say(str(steering.knee) if steering.knee else "knee: above the last step; --users takes it further")
