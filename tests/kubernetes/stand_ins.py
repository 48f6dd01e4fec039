"""What stands for what leads to a pod in a cluster: kube-proxy for a Service with an address, DNS for one without.

Neither is one. They are as late as the real ones may be, which is what a rollout has to bear.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from chassis.testing import CutProxy

NAMES_FILE_VARIABLE, NAMES_AGE_VARIABLE = "REHEARSED_NAMES_FILE", "REHEARSED_NAMES_AGE_S"


class ServiceAddress(CutProxy):
    """Stands for kube-proxy: one address, each new connection goes to any of the endpoints, and stays there.

    A connection to an endpoint where nobody listens ends without an answer. So it does where there is none.
    """

    def __init__(self) -> None:
        self._endpoints: tuple[tuple[str, int], ...] = ()
        super().__init__("", 0)

    def lead_to(self, endpoints: Iterable[tuple[str, int]]) -> None:
        """From now on new connections go to these."""
        self._endpoints = tuple(endpoints)

    def choose(self) -> tuple[str, int]:
        if not self._endpoints:
            raise ConnectionRefusedError("no endpoint")
        return random.choice(self._endpoints)


class Names:
    """Stands for the DNS of the cluster, with a cache in it: an answer says where a name led `age_s` ago.

    What it knows is a file, for gateways of other processes to look into.
    """

    def __init__(self, file: Path, *, age_s: float) -> None:
        self.env = {NAMES_FILE_VARIABLE: str(file), NAMES_AGE_VARIABLE: str(age_s)}
        self._file = file
        self._known: dict[str, list[tuple[float, list[str]]]] = {}
        self._lock = threading.Lock()

    def lead_to(self, name: str, addresses: Iterable[str]) -> None:
        """From now on this name leads there; the first time, it has done so all along."""
        with self._lock:
            since_s = time.monotonic() if name in self._known else 0.0
            self._known.setdefault(name, []).append((since_s, sorted(addresses)))
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(self._known), "utf-8")
            partial.replace(self._file)


async def look_up(name: str, port: int) -> Sequence[str]:
    """What the DNS says to a gateway that was started with `Names.env`. Raises OSError for what leads nowhere."""
    text = await asyncio.to_thread(Path(os.environ[NAMES_FILE_VARIABLE]).read_text)
    known: Mapping[str, list[tuple[float, list[str]]]] = json.loads(text)
    then_s = time.monotonic() - float(os.environ[NAMES_AGE_VARIABLE])
    addresses: list[str] = []
    for since_s, led_to in known.get(name, ()):
        if since_s == 0.0 or since_s <= then_s:
            addresses = led_to
    if not addresses:
        raise OSError(f"{name} leads nowhere")
    return random.sample(addresses, len(addresses))
