"""Containers of one image each, run as strictly as anybody will."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Self

from chassis.testing import wait_until

STRICT = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=256m")
PROBE_OFTEN = ("--health-interval=1s", "--health-timeout=1s", "--health-retries=2", "--health-start-period=20s")


class Docker:
    """The client."""

    def __init__(self, client: str) -> None:
        self._client = client

    def __call__(self, *words: str) -> str:
        """What a command prints, standard error too. Raises AssertionError if it fails."""
        done = subprocess.run(
            [self._client, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout[-4000:]}"
        return done.stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """All that the engine knows of an image or a container."""
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found


class Container:
    """A container in a `with`, removed at its end.

    Args:
        options: more words of `docker run`.
        always: the words that come first.
        command: what runs in it instead of what the image starts.
    """

    def __init__(
        self,
        docker: Docker,
        image: str,
        *options: str,
        env: Mapping[str, str],
        always: Sequence[str] = (*STRICT, *PROBE_OFTEN),
        command: Sequence[str] = (),
    ) -> None:
        variables = [f"--env={name}={value}" for name, value in env.items()]
        self._docker = docker
        self.id = docker("run", "--detach", *always, *options, *variables, image, *command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._docker("rm", "--force", "--volumes", self.id)

    def run(self, *command: str) -> str:
        """What a command in the container prints. Raises AssertionError if it fails."""
        return self._docker("exec", self.id, *command)

    def signal(self, name: str) -> None:
        """Send a signal to the container's first process."""
        self._docker("kill", "--signal", name, self.id)

    @property
    def state(self) -> dict[str, Any]:
        """Whether it runs, its exit code, its health."""
        found: dict[str, Any] = self._docker.inspect(self.id)["State"]
        return found

    @property
    def health(self) -> str:
        """starting, healthy or unhealthy, as the image's own check has it."""
        return str(self.state["Health"]["Status"])

    def becomes(self, health: str, *, timeout_s: float = 30) -> Self:
        """Wait for this health. Raises TimeoutError with the container's last words."""
        try:
            wait_until(lambda: self.health == health, timeout_s=timeout_s, interval_s=0.1)
        except TimeoutError as error:
            raise TimeoutError(f"not {health}: {self._docker('logs', '--tail=20', self.id)}") from error
        return self

    def ended(self, *, timeout_s: float) -> int:
        """Wait until it has ended by itself. Returns the exit code; raises TimeoutError."""
        wait_until(lambda: not self.state["Running"], timeout_s=timeout_s, interval_s=0.05, what="it ends")
        return int(self.state["ExitCode"])
