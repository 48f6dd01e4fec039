"""`python -m chassis.probe`: exit status 0 if the service in this container is alive, 1 and one line if not.

The HEALTHCHECK of an image, run every few seconds for as long as the container lives, so it imports next to nothing.
"""

import os
import socket
import sys

LIMIT_S = 2.0
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - where a service may listen, not where this does


def address() -> tuple[str, int]:
    """Where the service listens: from the environment, or else, at some cost, from its settings."""
    host, port = os.environ.get("LISTEN_HOST", ""), os.environ.get("PORT", "")
    if not port:
        from importlib import import_module

        from chassis.settings import load

        settings = load(import_module(f"{os.environ['SERVICE']}.settings").Settings)
        host, port = settings.listen_host, str(settings.port)
    return "127.0.0.1" if host in ANY_ADDRESS else host, int(port)


def status(host: str, port: int) -> str:
    """The status line of `/health/live`. Raises OSError."""
    with socket.create_connection((host, port), LIMIT_S) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.readline(1024).decode("latin-1").strip()


def main() -> int:
    """Ask once. Returns the exit status."""
    try:
        answer = status(*address())
    except OSError as error:
        answer = f"{type(error).__name__}: {error}"
    alive = answer.startswith("HTTP/1.1 200 ")
    sys.stdout.write(f"{answer}\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
