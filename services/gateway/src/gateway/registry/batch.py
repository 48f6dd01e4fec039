"""What some revisions of the registry did, as workers read it and tell one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.registry.keys import ApiKey
from gateway.registry.repository import PAGE, Registry, State
from gateway.registry.table import Change


class Batch(NamedTuple):
    """What the revisions after `base`, up to `revision`, did. It holds states, so doing some of it again is no harm."""

    epoch: str
    base: int
    revision: int
    changes: Sequence[Change] = ()
    keys: Sequence[ApiKey] = ()


def batches(epoch: str, changes: Iterable[Change], keys: Iterable[ApiKey]) -> Iterator[Batch]:
    """These in batches of revisions that follow one another without a gap."""
    steps: list[Change | ApiKey] = sorted([*changes, *keys], key=lambda step: step.revision)
    while steps:
        gap = next((n for n in range(1, len(steps)) if steps[n].revision > steps[n - 1].revision + 1), len(steps))
        run, steps = steps[:gap], steps[gap:]
        yield Batch(
            epoch,
            run[0].revision - 1,
            run[-1].revision,
            [step for step in run if isinstance(step, Change)],
            [step for step in run if isinstance(step, ApiKey)],
        )


def read(registry: Registry, base: int, seen: State) -> Iterator[Batch]:
    """What the registry did after revision `base` and up to `seen`, a state that it has had.

    Keys may be newer than the batch says. Raises what `registry` does.
    """
    while base < seen.revision:
        changes = registry.changes_since(base)
        upto = min(changes[-1].revision, seen.revision) if len(changes) == PAGE else seen.revision
        # Keys are read last: of those that changed up to `upto`, none is missing.
        keys = registry.keys_since(base)
        yield Batch(seen.epoch, base, upto, [change for change in changes if change.revision <= upto], keys)
        base = upto
