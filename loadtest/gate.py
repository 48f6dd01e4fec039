"""Whether a load test holds: its statistics against slo.yml. Measures nothing and prints nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.endpoints import Endpoint
from loadtest.slo import ALL, Limits, Slo


@dataclass(frozen=True)
class Measured:
    """What was seen of one endpoint, or of all. Times are of answers and failures alike, ms."""

    requests: int
    failures: int
    p95_ms: float
    p99_ms: float

    @property
    def error_rate(self) -> float:
        """The share that failed, 0 to 1."""
        return self.failures / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Check:
    """One limit and what was measured, as text, and whether it holds."""

    endpoint: str
    limit: str
    measured: str
    holds: bool


def judge(slo: Slo, measured: Mapping[str, Measured], total: Measured, *, seconds: float) -> list[Check]:
    """Every limit of `slo`, in its order, then what there should not be.

    Args:
        measured: by `<method> <name>`, as in locust's statistics. An endpoint that slo.yml names and that nobody has
            asked breaks its limit: a scenario that stopped asking would always pass. So does a name that no
            scenario knows: that is a URL which has become an entry.
        total: of all requests.
        seconds: how long the run took.
    """
    checks = [*_of(ALL, slo.all, total, seconds)]
    for endpoint, limits in slo.endpoints.items():
        seen = measured.get(endpoint)
        if seen is None or not seen.requests:
            checks.append(Check(endpoint, "is asked", "never", holds=False))
        else:
            checks += _of(endpoint, limits, seen, seconds)
    strangers = sorted(name for name in measured if name not in set(Endpoint))
    return checks + [Check(name, "is an endpoint", "is none", holds=False) for name in strangers]


def holds(checks: Sequence[Check]) -> bool:
    """Whether all of them hold; nothing at all does not."""
    return bool(checks) and all(check.holds for check in checks)


def table(checks: Sequence[Check]) -> str:
    """endpoint, limit, measured, holds: a line for each."""
    rows = [("endpoint", "limit", "measured", "holds")]
    rows += [(each.endpoint, each.limit, each.measured, "yes" if each.holds else "NO") for each in checks]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    shown, last = [], ""
    for name, limit, value, verdict in rows:
        first = "" if name == last else name
        last = name
        line = f"{first:<{widths[0]}}  {limit:<{widths[1]}}  {value:>{widths[2]}}  {verdict}"
        shown.append(line.rstrip())
    return "\n".join(shown)


def _of(name: str, limits: Limits, seen: Measured, seconds: float) -> Iterator[Check]:
    for percent, most_ms, time_ms in ((95, limits.p95_ms, seen.p95_ms), (99, limits.p99_ms, seen.p99_ms)):
        if most_ms is not None:
            yield Check(name, f"p{percent} <= {most_ms:g} ms", f"{time_ms:.0f} ms", holds=time_ms <= most_ms)
    if limits.error_rate is not None:
        text = f"{100 * seen.error_rate:.2f} % ({seen.failures} of {seen.requests})"
        yield Check(name, f"failed <= {100 * limits.error_rate:g} %", text, holds=seen.error_rate <= limits.error_rate)
    if limits.per_second is not None:
        rate = seen.requests / seconds if seconds > 0 else 0.0
        yield Check(name, f"rate >= {limits.per_second:g}/s", f"{rate:.2f}/s", holds=rate >= limits.per_second)
