"""Made-up users by COPY: always the same for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from user import repository

MAX_NUMBER = 99_999_999
CHUNK = 20_000
"""Users to a COPY and a commit: a walk may have to wait for one, and the progress bar moves once for each."""

_FIRST_NAMES = (
    "Ada", "Alan", "Barbara", "Claude", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Jean", "John", "Katherine",
    "Ken", "Leslie", "Margaret", "Niklaus", "Radia", "Shafi", "Tony",
)  # fmt: skip
_LAST_NAMES = (
    "Allen", "Bartik", "Dijkstra", "Goldwasser", "Hamilton", "Hoare", "Hopper", "Johnson", "Knuth", "Lamarr", "Lamport",
    "Liskov", "Lovelace", "McCarthy", "Perlman", "Shannon", "Thompson", "Turing", "Wirth",
)  # fmt: skip


def state(connection: Any) -> tuple[int, int]:
    """How many users there are, and the first number that no seeded user has or had a greater one of."""
    with connection.cursor() as cursor:
        return repository.seeded(cursor)


def fill(connection: Any, *, first: int, count: int) -> Iterator[int]:
    """Add users with the numbers from `first` on, a commit for each CHUNK; yields how many were added so far.

    At the end services are told that what they cached is old, and the table's statistics are brought up to date.
    """
    with connection.cursor() as cursor:
        for start in range(first, first + count, CHUNK):
            numbers = range(start, min(start + CHUNK, first + count))
            repository.copy(cursor, io.StringIO("".join(map(line, numbers))))
            yield numbers.stop - first
        repository.finish_copying(cursor)


def line(number: int) -> str:
    """One user in COPY's text format: user name, e-mail address, full name."""
    full_name = f"{_FIRST_NAMES[number % 19]} {_LAST_NAMES[number // 19 % 19]}"
    return f"user-{number:08d}\tuser-{number:08d}@example.com\t{full_name}\n"
