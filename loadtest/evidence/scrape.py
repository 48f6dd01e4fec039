"""What servers and PostgreSQL count themselves, read before and after a load."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import psycopg2

from loadtest.errors import BenchError


def total(text: str, name: str, *, but: str = "") -> float:
    """The sum of all samples called `name` in Prometheus text, without those that have the label `but`."""
    found = 0.0
    for line in text.splitlines():
        if line.startswith(name) and line[len(name) : len(name) + 1] in ("{", " ") and not (but and but in line):
            found += float(line.rsplit("} ", 1)[-1].split()[0] if "{" in line else line.split()[1])
    return found


def requests(text: str) -> float:
    """How many requests a server has answered by its Prometheus text, looks at its metrics left out.

    Raises:
        BenchError: it does not tell.
    """
    names = {line.partition("{")[0] for line in text.splitlines() if "_http_requests_total{" in line}
    if not names:
        raise BenchError("/metrics does not tell how many requests there were")
    return sum(total(text, name, but='endpoint="metrics"') for name in names)


def sessions(url: str) -> int:
    """How many sessions the database of that URL has ever had, this look at it included."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        ((count,),) = cursor.fetchall()
        return int(count)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the requests of one load spent on their connections to PostgreSQL."""

    requests: float
    seconds: float
    sessions: int

    @property
    def us_per_request(self) -> float:
        """Microseconds until a request has its connection; infinite if there was no request."""
        return self.seconds / self.requests * 1e6 if self.requests else float("inf")

    @property
    def sessions_per_thousand(self) -> float:
        """Sessions of PostgreSQL for a thousand requests."""
        return self.sessions / self.requests * 1000 if self.requests else float("inf")

    def record(self) -> dict[str, float]:
        """For the results file."""
        return {
            "requests": self.requests,
            "seconds_for_connections": round(self.seconds, 6),
            "us_per_request": round(self.us_per_request, 2),
            "sessions_opened": self.sessions,
        }
