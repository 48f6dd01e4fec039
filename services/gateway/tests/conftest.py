"""A service to stand behind the edge that misbehaves on demand, a client that shows every byte, and gateways."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chassis.servers import PostgresServer
from chassis.testing import GunicornProcess, free_port, wait_until
from chassis.testing.databases import migrate
from chassis.testing.wire import Client as Client
from chassis.testing.wire import Message as Message
from chassis.testing.wire import Wire as Wire
from chassis.testing.wire import read_message

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
