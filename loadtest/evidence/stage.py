"""What every part of the evidence has at hand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress, TaskID

from loadtest.machine import Cores
from loadtest.openloop import Offer, Outcome, offer
from loadtest.servers import Launch, RunningServer
from loadtest.stores import Stores
from loadtest.subjects import Fleet


def rounds(quick: bool) -> int:
    """A B A B …: so many of each. Fewer than five decide nothing."""
    return 2 if quick else 5


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stores, cores and the bar that shows how far it is.

    Attributes:
        quick: under 3 minutes in all instead of 15: fewer rounds, smaller sizes; a look, not a result.
        task: the part's own task on the progress bar; its total is seconds that the part expects to take.
    """

    stores: Stores
    directory: Path
    cores: Cores
    progress: Progress
    task: TaskID
    fleet: Fleet
    quick: bool

    @property
    def rounds(self) -> int:
        """As `rounds` for this run."""
        return rounds(self.quick)

    def say(self, what: str) -> None:
        """Show what is being done."""
        self.progress.update(self.task, description=what)

    def keep_time(self, began_s: float) -> None:
        """Set the bar to the time since `began_s` (monotonic): start-ups and queues that drain take time as well."""
        self.progress.update(self.task, completed=time.monotonic() - began_s)

    def run(self, launch: Launch, *, ready: str = "/health/live") -> RunningServer:
        """Start a server, or return the one that runs under that name; it is ended after the part."""
        return self.fleet.run(launch, ready=ready)

    def offer(self, what: Offer) -> Outcome:
        """Send it, and move the bar on by the seconds that it took."""
        outcome = offer(what)
        self.progress.advance(self.task, what.warm_up_s + what.seconds)
        return outcome
