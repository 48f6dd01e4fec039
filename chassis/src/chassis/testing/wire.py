"""HTTP/1.1 on a bare connection: a client that sends what it is told, well-formed or not, and shows every byte."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Self

Header = tuple[str, str]


class Wire:
    """One end of a TCP connection. Everything on it has a limit of 10 s."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.open = True
        self.idle = False
        self._buffer = bytearray()
        sock.settimeout(10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.sock.sendall(data)

    def more(self) -> bool:
        """Read what is there; False at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes | None:
        """What comes up to and including `mark`; None if the stream ends first."""
        while mark not in self._buffer:
            if not self.more():
                return None
        return self._take(self._buffer.index(mark) + len(mark))

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes, fewer if the stream ends."""
        while len(self._buffer) < count and self.more():
            pass
        return self._take(count)

    def rest(self) -> bytes:
        """All that comes until the stream ends."""
        while self.more():
            pass
        return self._take(len(self._buffer))

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def chunked(self) -> bytes:
        """A chunked body, decoded."""
        body = b""
        while size := int((self.until(b"\r\n") or b"0").split(b";")[0], 16):
            body += self.exactly(size)
            self.until(b"\r\n")
        self.until(b"\r\n")
        return body

    def closed_by_peer(self) -> bool:
        """Wait for the end of the stream; False if it does not come."""
        try:
            self.rest()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close in an orderly way."""
        self.open = False
        self.sock.close()

    def reset(self) -> None:
        """Close as a machine that is gone."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


@dataclass
class Message:
    """A request as a service saw it, or an answer as a client saw it."""

    start: str
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    raw_head: bytes = b""

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(" ")[1])

    @property
    def method(self) -> str:
        """Of a request."""
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        """Of a request."""
        return self.start.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """The values of every field of that name."""
        return [value for field_name, value in self.headers if field_name == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a field that is there once; None if it is not there."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{name} is there {len(values)} times")
        return values[0] if values else None

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def read_message(wire: Wire, *, of_head: bool = False, body: bool = True) -> Message | None:
    """The next message on `wire`; None if the stream ends before its head is complete."""
    head = wire.until(b"\r\n\r\n")
    if head is None:
        return None
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    message = Message(start, headers, raw_head=head)
    if not body or of_head:
        return message
    if "chunked" in message.all("transfer-encoding"):
        message.body = wire.chunked()
    elif (length := message.get("content-length")) is not None:
        bodiless = start.startswith("HTTP/") and message.status in (204, 304)
        message.body = b"" if bodiless else wire.exactly(int(length))
    elif start.startswith("HTTP/") and message.status >= 200 and message.status not in (204, 304):
        message.body = wire.rest()
    return message


class Client:
    """A client of one connection that sends what it is told, well-formed or not.

    Args:
        key: an API key that goes with every request of `ask`.
        source: the address of this machine from which it comes.
    """

    def __init__(self, port: int, *, key: str | None = None, source: str = "127.0.0.1") -> None:
        self.wire = Wire(socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)))
        self._always = {"X-API-Key": key} if key is not None else {}

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, host: str = "shop"
    ) -> Message:
        """Send a request and read its answer, interim answers passed over."""
        lines = {"Host": host, **self._always, **(headers or {})}
        if body and "Transfer-Encoding" not in lines:
            lines.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.wire.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        return self.answer(of_head=method == "HEAD")

    def answer(self, *, of_head: bool = False) -> Message:
        """The next final answer. Fails if the connection ends first."""
        while True:
            message = read_message(self.wire, of_head=of_head)
            if message is None:
                raise AssertionError("the connection ended without an answer")
            if message.status >= 200:
                return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.wire.close()
