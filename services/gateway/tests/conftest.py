"""A service to stand behind the edge that misbehaves on demand, a client that shows every byte, and gateways."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from chassis.servers import PostgresServer
from chassis.testing import GunicornProcess, free_port, wait_until
from chassis.testing.databases import migrate

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
        assert len(values) <= 1, f"{name} is there {len(values)} times"
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
    """A client of one connection that sends what it is told, well-formed or not."""

    def __init__(self, port: int, *, key: str | None = None) -> None:
        self.wire = Wire(socket.create_connection(("127.0.0.1", port), timeout=10))
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
            assert message is not None, "the connection ended without an answer"
            if message.status >= 200:
                return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.wire.close()


def ask(
    port: int, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, host: str = "shop"
) -> Message:
    """One request on a connection of its own."""
    with Client(port) as client:
        return client.ask(method, target, headers, body, host=host)


Handler = Callable[[Wire, Message], object]


class Backend:
    """A service on a port: a thread for every connection, and a handler for every path that a test gave one.

    Other paths are answered with what was asked, as JSON.
    """

    def __init__(self, address: str = "127.0.0.1", port: int | None = None) -> None:
        self.address = address
        self.port = port or free_port()
        self.url = f"http://{address}:{self.port}"
        self.connections = 0
        self.seen: list[Message] = []
        self._handlers: dict[str, tuple[Handler, bool]] = {}
        self._wires: set[Wire] = set()
        self._listener: socket.socket | None = None
        self.start()

    def on(self, path: str, handler: Handler, *, body: bool = True) -> str:
        """Let `handler` answer `path`; with `body=False` it reads the request's body itself. Returns the path."""
        self._handlers[path] = (handler, body)
        return path

    @property
    def open_connections(self) -> int:
        """How many are open now."""
        return len(self._wires)

    def seen_at(self, path: str) -> list[Message]:
        """The requests for `path`, in their order."""
        return [message for message in list(self.seen) if message.target.partition("?")[0] == path]

    def start(self) -> None:
        """Listen (again, on the same port)."""
        self._listener = socket.create_server((self.address, self.port), backlog=1024)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and close those there are."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for wire in list(self._wires):
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)

    def close_idle(self) -> None:
        """Close the connections that wait for another request, one at least, as a keep-alive time-out does."""
        wait_until(lambda: any(wire.idle for wire in list(self._wires)))
        for wire in list(self._wires):
            if wire.idle:
                with contextlib.suppress(OSError):
                    wire.sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(Wire(sock),), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        wire.sock.settimeout(60)
        self._wires.add(wire)
        try:
            while wire.open and (message := read_message(wire, body=False)) is not None:
                handler, read_body = self._handlers.get(message.target.partition("?")[0], (echo, True))
                wire.idle = False
                if read_body:
                    message.body = read_body_of(wire, message)
                self.seen.append(message)
                handler(wire, message)
                wire.idle = True
        except OSError:
            return
        finally:
            self._wires.discard(wire)
            if wire.open:
                wire.close()


def read_body_of(wire: Wire, message: Message) -> bytes:
    """The body of a request whose head has been read."""
    if "chunked" in message.all("transfer-encoding"):
        return wire.chunked()
    return wire.exactly(int(message.get("content-length") or 0))


def answer(wire: Wire, body: bytes = b"ok", *, status: str = "200 OK", headers: str = "") -> None:
    """Send a whole answer; `headers` are lines, each with its CRLF."""
    wire.send(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1") + body)


def echo(wire: Wire, message: Message) -> None:
    """Answer with the request."""
    if message.target == "/health/live":
        answer(wire, b'{"status":"alive"}')
        return
    shown = {
        "method": message.method,
        "target": message.target,
        "headers": message.headers,
        "body": message.body.decode("latin-1"),
    }
    body = json.dumps(shown).encode()
    answer(wire, b"" if message.method == "HEAD" else body, headers="Content-Type: application/json\r\n")


ADMIN_KEY = "sf_the-admin-key-of-the-tests-and-of-nothing-else"


class Gateway(GunicornProcess):
    """The gateway under gunicorn, with two workers unless told otherwise, and with `ADMIN_KEY`."""

    def __init__(self, directory: Path, **env: str) -> None:
        directory.mkdir(exist_ok=True)
        key_file = directory / "admin-key"
        key_file.write_text(ADMIN_KEY, encoding="ascii")
        given = {"DRAIN_SECONDS": "0", "RATE_LIMITS": "off", "GATEWAY_ADMIN_KEY_FILE": str(key_file), **env}
        super().__init__("gateway", directory=directory, env=given, module="asgi")

    def ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        host: str = "shop",
        key: str | None = ADMIN_KEY,
    ) -> Message:
        """One request on a connection of its own, with the admin key unless told otherwise."""
        with Client(self.port, key=key) as client:
            return client.ask(method, target, headers, body, host=host)

    def client(self) -> Client:
        """A new connection, whose requests have the admin key unless told otherwise."""
        return Client(self.port, key=ADMIN_KEY)

    def metric(self, line: str) -> float:
        """The value of a sample, named as in the exposition; 0 if it is not there."""
        text = self.ask("GET", "/metrics").body.decode()
        return next((float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(f"{line} ")), 0)

    def wait_metric(self, line: str, value: float) -> None:
        """Wait for a sample to have that value: a request is counted when its answer is already on its way."""
        wait_until(lambda: self.metric(line) == value, timeout_s=5, what=f"{line} to be {value}")


@pytest.fixture(scope="session")
def registry_template(postgres_server: PostgresServer) -> str:
    """A database with the schema and nothing in it.

    A module whose tests all want such a one makes it their `database_template`.
    """
    migrate("gateway", postgres_server.create_database("gateway_template"))
    return "gateway_template"


@pytest.fixture(scope="session")
def catalogue() -> Iterator[Backend]:
    """The catalogue's place for all tests of this process. Tests use paths of their own on it."""
    backend = Backend()
    yield backend
    backend.stop()


@pytest.fixture(scope="session")
def user() -> Iterator[Backend]:
    """The user service's place, likewise."""
    backend = Backend()
    yield backend
    backend.stop()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A service for this test alone: to stop, start, and count the connections of."""
    backend = Backend()
    yield backend
    backend.stop()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, catalogue: Backend, user: Backend) -> Iterator[Gateway]:
    """A gateway for all tests of this process that leave it as it is."""
    env = {
        "CATALOGUE_URL": catalogue.url, "USER_URL": user.url, "REQUEST_TIMEOUT_MS": "3000",
        "BREAKER_FAILURES": "1000", "RETRY_BUDGET_PERCENT": "0",
    }  # fmt: skip
    process = Gateway(tmp_path_factory.mktemp("gateway"), **env)
    yield process.wait_alive()
    process.stop()


@pytest.fixture
def start_gateway(tmp_path: Path, backend: Backend) -> Iterator[Callable[..., Gateway]]:
    """`start_gateway(NAME="value")` is a gateway of this test's own, all of whose routes lead to `backend`."""
    started: list[Gateway] = []

    def start(**env: str) -> Gateway:
        process = Gateway(tmp_path, **{"CATALOGUE_URL": backend.url, "USER_URL": backend.url, **env})
        started.append(process)
        return process.wait_alive()

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """A path of the catalogue that no other test uses."""
    return f"/api/products/{request.function.__name__}/{zlib.crc32(request.node.name.encode()):x}"
