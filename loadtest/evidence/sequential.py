"""One request after another over one connection: what a request costs when nothing waits for anything."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.errors import BenchError
from loadtest.openloop import Outcome

_TIMEOUT_S = 30.0


class Wire:
    """A kept connection to 127.0.0.1. Answers must have a Content-Length."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            BenchError: there is no whole answer.
        """
        try:
            self._socket.sendall(request)
            answer = b""
            while (end := answer.find(b"\r\n\r\n")) < 0:
                answer += self._receive()
            head = answer[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            if at < 0:
                raise BenchError(f"an answer without a length: {head[:200]!r}")
            length = int(head[at + 17 :].partition(b"\r\n")[0])
            pieces, there = [answer[end + 4 :]], len(answer) - end - 4
            while there < length:
                pieces.append(self._receive())
                there += len(pieces[-1])
        except OSError as error:
            raise BenchError(f"no answer on port {self._port}: {error}") from error
        return int(head[9:12]), b"".join(pieces)

    def _receive(self) -> bytes:
        piece = self._socket.recv(262_144)
        if not piece:
            raise BenchError(f"port {self._port} closed a connection in the middle of an answer")
        return piece

    def close(self) -> None:
        """End it."""
        self._socket.close()


@contextmanager
def connected(port: int) -> Iterator[Wire]:
    """A connection for as long as it is needed."""
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()


def ask_for(
    port: int,
    requests: Iterator[bytes],
    *,
    seconds: float,
    status: int = 200,
    at_least: int = 5,
    at_most: int = 100_000,
) -> Outcome:
    """Send requests one after another for `seconds`; the first one is not counted.

    Args:
        at_least: of them are sent however long that takes.
        at_most: ends it earlier, as does the end of `requests`.

    Raises:
        BenchError: an answer has another status.
    """
    outcome = Outcome(seconds)
    with connected(port) as wire:
        began_s = time.monotonic()
        for number, request in enumerate(requests):
            sent_s = time.monotonic()
            if number > at_most or (number > at_least and sent_s - began_s >= seconds):
                break
            got, body = wire.ask(request)
            now_s = time.monotonic()
            if got != status:
                raise BenchError(f"wanted {status}, got {got} for {request[:120]!r}: {body[:300]!r}")
            if number == 0:
                began_s = now_s
                continue
            outcome.add(got, now_s - sent_s, at_s=sent_s - began_s)
            outcome.completed += 1
        outcome.seconds = time.monotonic() - began_s
    outcome.offered = outcome.count / outcome.seconds
    return outcome
