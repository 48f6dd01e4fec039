"""A gateway that strangers would like to knock at other doors: nobody behind those doors ever hears of it."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg2.extensions
import pytest

from chassis.servers import PostgresServer
from chassis.settings import load
from chassis.testing import GunicornProcess, free_port, wait_until
from chassis.testing.calls import call
from chassis.testing.wire import Client
from gateway import db
from gateway.registry.keys import generate
from gateway.settings import Settings
from tests.hostile.stage import Stage
from tests.promises import Promise

pytestmark = pytest.mark.hostile

ROOT = Path(__file__).resolve().parent.parent.parent
DOORS = ("127.0.0.2", "127.0.0.3", "127.1.2.3")
"""Where somebody listens who must hear nothing. Not 127.0.0.1: the catalogue is there, so it is allowed."""
HARMLESS = "127.9.9.9"
"""Where a service is that a route may lead to."""
METADATA = "169.254.169.254"

# 127.0.0.2 is 0x7f000002 is 2130706434; a port follows.
SPELLINGS = (
    "http://127.0.0.2:{port}", "http://2130706434:{port}", "http://0x7f000002:{port}", "http://0x7f.0.0.2:{port}",
    "http://0177.0.0.2:{port}", "http://017700000002:{port}", "http://127.2:{port}", "http://127.0.2:{port}",
    "http://127.0.0.2.:{port}", "http://127.0.0.02:{port}", "http://127.000.000.002:{port}",
    "http://0x7F000002:{port}", "http://0x7f.1:{port}", "http://127.0.0.2%00:{port}",
    "http://[::ffff:127.0.0.2]:{port}", "http://[::ffff:7f00:2]:{port}", "http://[0:0:0:0:0:ffff:127.0.0.2]:{port}",
    "http://[::127.0.0.2]:{port}", "http://[64:ff9b::7f00:2]:{port}", "http://[64:ff9b::127.0.0.2]:{port}",
    "http://[64:ff9b:1::7f00:2]:{port}", "http://[2002:7f00:2::]:{port}", "http://[2001:0:0:0:0:0:80ff:fffd]:{port}",
    "http://[::1]:{port}", "http://[::]:{port}", "http://[::1%25lo]:{port}", "http://[fe80::1%25eth0]:{port}",
    "http://[fe80::1%lo]:{port}", "http://0:{port}", "http://0.0.0.0:{port}", "http://[::ffff:0:127.0.0.2]:{port}",
    "http://[fe80::5efe:7f00:2]:{port}", "http://ok.evil.example@127.0.0.2:{port}",
    "http://127.0.0.2:{port}@ok.evil.example", "http://ok.evil.example:80@127.0.0.2:{port}",
    "http://127.0.0.2:{port}#@ok.evil.example", "http://127.0.0.2:{port}?@ok.evil.example",
    "http://127.0.0.2:{port}\\@ok.evil.example", "http://ok.evil.example\\@127.0.0.2:{port}",
    "http://127.0.0.2:{port}/.evil.example", "http://ok.evil.example#@127.0.0.2:{port}", "http://evil.example:{port}",
    "http://evil.example.:{port}", "http://notevil.example:{port}", "http://a.evil.example.:{port}",
    "http://.evil.example:{port}", "http://a..evil.example:{port}", "http://*.evil.example:{port}",
    "http://%61.evil.example:{port}", "http://a.evil.example%2f.x:{port}", "http://\uff41.evil.example:{port}",
    "http://a.evil\u3002example:{port}", "http://\u2460\u2461\u2466.0.0.2:{port}", "http://localhost:{port}",
    "http://LOCALHOST:{port}", "http://localhost.:{port}", "http://ip6-localhost:{port}",
    "http://127.0.0.2:{port}/../", "//127.0.0.2:{port}", "http:/127.0.0.2:{port}", "http:127.0.0.2:{port}",
    "http:///127.0.0.2:{port}", "ftp://127.0.0.2:{port}", "gopher://127.0.0.2:{port}/_x", "file:///etc/passwd",
    "dict://127.0.0.2:{port}/x", "unix:/tmp/x", "http+unix://%2Ftmp%2Fx", "jar:http://127.0.0.2:{port}!/",
    "http://127.0.0.2:{port}\r\nX: y", " http://127.0.0.2:{port}", "http://\t127.0.0.2:{port}",
    "http://127.0.0.2 :{port}", "http://169.254.169.254", "http://[::ffff:169.254.169.254]", "http://2852039166",
    "http://0xa9fea9fe", "http://0251.0376.0251.0376", "http://[fd00:ec2::254]", "http://100.100.100.200",
    "http://168.63.129.16", "http://[64:ff9b::a9fe:a9fe]", "http://metadata.google.internal", "http://10.0.0.1",
    "http://192.168.0.1",
)  # fmt: skip

# What a name below the allowed `*.evil.example` says, first and from then on.
NAMES: dict[str, list[list[str]]] = {
    "loopback.evil.example": [["127.0.0.2"]],
    "mapped.evil.example": [["::ffff:127.0.0.2"]],
    "compatible.evil.example": [["::127.0.0.2"]],
    "nat64.evil.example": [["64:ff9b::7f00:2"]],
    "local-nat64.evil.example": [["64:ff9b:1::7f00:2"]],
    "sixtofour.evil.example": [["2002:7f00:2::"]],
    "zone.evil.example": [["fe80::1%lo"]],
    "six.evil.example": [["::1"]],
    "any.evil.example": [["0.0.0.0"]],
    "any-six.evil.example": [["::"]],
    "private.evil.example": [["10.0.0.1"], ["192.168.0.1"]],
    "metadata.evil.example": [[METADATA]],
    "metadata-six.evil.example": [["fd00:ec2::254"]],
    "both.evil.example": [["127.0.0.2", "127.0.0.3"]],
    "mixed.evil.example": [["127.0.0.2", METADATA, "10.0.0.1"]],
    "changes.evil.example": [[HARMLESS], ["127.0.0.2"]],
    "changes-often.evil.example": [[HARMLESS], [HARMLESS, "127.0.0.3"], ["127.1.2.3"], [METADATA]],
    "partner.example": [[METADATA]],  # itself on the list, so that private addresses would do
}


class Doors:
    """Who listens on `DOORS`, all on one port, and what they hear."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: list[str] = []
        self._listeners = [socket.create_server((address, self.port)) for address in DOORS]
        for listener in self._listeners:
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            self.heard.append(f"{listener.getsockname()} from {peer}")
            sock.close()

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    """Doors that must not be knocked at; that they hear is seen first."""
    made = Doors()
    with socket.create_connection((DOORS[0], made.port)):
        wait_until(lambda: made.heard)
    made.heard.clear()
    yield made
    made.close()


REDIRECTS = ("301 x", "302 x", "303 x", "305 x", "307 x", "308 x", "200 x", "401 x")


class Redirector:
    """A service that a route may lead to, and that answers with these statuses and sends everybody on to a door."""

    def __init__(self, target: str, *statuses: str, address: str = "127.0.0.1", port: int | None = None) -> None:
        self.port = port or free_port()
        self.asked = 0
        self._target = target
        self._statuses = statuses
        self._listener = socket.create_server((address, self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.recv(65536)
            self.asked += 1
            status = self._statuses[self.asked % len(self._statuses)]
            head = (
                f"HTTP/1.1 {status}\r\nLocation: {self._target}\r\nX-Accel-Redirect: {self._target}\r\n"
                f"X-Sendfile: /etc/passwd\r\nRefresh: 0; url={self._target}\r\nContent-Location: {self._target}\r\n"
                f"Link: <{self._target}>; rel=preload\r\nCache-Control: public, max-age=60\r\n"
                "Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            sock.sendall(head.encode())
            sock.close()

    def close(self) -> None:
        """Stop."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Knocker:
    """A gateway of its own, with a registry and `*.evil.example`, `partner.example` and HARMLESS on its list."""

    def __init__(self, process: GunicornProcess, key: str, settings: Settings) -> None:
        self.process = process
        self.key = {"X-API-Key": key}
        self.settings = settings
        self.count = 0

    def write(self, url: str) -> int:
        """The status of an attempt to make a route; it is `/t/taken/s<count>` if it is made."""
        self.count += 1
        route = {"tenant": "taken", "service": f"s{self.count}", "env": "prod", "version": "v1", "url": url}
        return call(self.process, "POST", "/api/v1/routes", route, headers=self.key).status

    def smuggle(self, url: str) -> str:
        """Put a route into the registry past the API, as one from before the list was what it is; returns its path."""
        self.count += 1
        name = f"s{self.count}"
        with db.registry_of(self.settings) as registry:
            place = {"tenant": "old", "service": name, "env": "prod", "version": "v1"}
            registry.create({**place, "url": url, "active": True, "weight": 100}, actor="test")
        psycopg2.extensions.set_wait_callback(None)
        return f"/t/old/{name}/x"

    def ask(self, path: str) -> int:
        """The status of a request through a route."""
        return call(self.process, "GET", path, headers=self.key).status


@pytest.fixture(scope="module")
def knocker(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, doors: Doors
) -> Iterator[Knocker]:
    """The gateway that is to be misled."""
    directory = tmp_path_factory.mktemp("knocker")
    key = generate()
    (directory / "admin-key").write_text(key, encoding="ascii")
    (directory / "names.json").write_text(json.dumps(NAMES), encoding="utf-8")
    with ExitStack() as stack:
        url = postgres_server.create_database("hostile_knocker")
        stack.callback(postgres_server.drop_database, "hostile_knocker")
        settings = load(Settings, database_url=url)
        db.create(settings)
        env = {
            "DATABASE_URL": url, "GATEWAY_ADMIN_KEY_FILE": str(directory / "admin-key"), "WEB_CONCURRENCY": "1",
            "GATEWAY_ALLOWED_UPSTREAMS": f"*.evil.example,partner.example,{HARMLESS}", "PYTHONPATH": str(ROOT),
            "HOSTILE_NAMES": str(directory / "names.json"), "UPSTREAM_CONNECT_TIMEOUT_MS": "200", "RATE_LIMITS": "off",
        }  # fmt: skip
        process = GunicornProcess("gateway", directory=directory, env=env, app="tests.hostile.rebinding:app")
        stack.callback(process.stop)
        yield Knocker(process.wait_alive(), key, settings)


def test_no_spelling_of_an_address_makes_a_route(knocker: Knocker, doors: Doors, promise: Promise) -> None:
    """Decimal, octal, hexadecimal, short, mapped, with credentials, zones, dots: refused when it is written."""
    taken, statuses = [], Counter[int]()
    for spelling in SPELLINGS:
        url = spelling.replace("{port}", str(doors.port))
        status = knocker.write(url)
        statuses[status] += 1
        if status < 400:
            taken.append(url)
            knocker.ask(f"/t/taken/s{knocker.count}/x")
    # What may look odd and leads to a name that is allowed is no danger, as the name's addresses are judged.
    promise(
        "routes to inside", "refused, in every spelling", f"{len(SPELLINGS)} URLs: {dict(statuses)}",
        holds=not taken and max(statuses) < 500,
    )  # fmt: skip
    promise(
        "routes to inside", "nobody inside hears anything", f"{len(doors.heard)} connections", holds=not doors.heard
    )
    assert not taken + doors.heard


def test_names_and_old_routes_lead_nowhere_inside(knocker: Knocker, doors: Doors, promise: Promise) -> None:
    """The address is judged just before it is connected to: of names that lie, or change their mind, and of routes that
    were written when the list was another one.
    """
    harmless = Redirector(f"http://{DOORS[0]}:{doors.port}/", "200 x", address=HARMLESS, port=doors.port)
    made = [(name, knocker.write(f"http://{name}:{doors.port}"), f"/t/taken/s{knocker.count}/x") for name in NAMES]
    old = [f"http://{address}:{doors.port}" for address in (*DOORS, "[::ffff:127.0.0.2]", "[::1]", METADATA, "0.0.0.0")]
    old += [f"http://other.example:{doors.port}", f"http://127.0.0.2.:{doors.port}", f"http://2130706434:{doors.port}"]
    paths = [path for _, status, path in made if status == 201] + [knocker.smuggle(url) for url in old]
    wait_until(lambda: all(knocker.ask(path) != 404 for path in paths), timeout_s=10, what="the routes to be known")
    statuses: Counter[int] = Counter()

    def ask_all() -> bool:
        statuses.update(knocker.ask(path) for path in paths)
        return any("changes.evil.example leads to 127.0.0.2" in line for line in knocker.process.lines)

    ask_all()
    first = dict(statuses)
    wait_until(ask_all, timeout_s=20, interval_s=1, what="a name to have changed its mind")
    harmless.close()
    statuses.clear()
    ask_all()
    promise(
        "names that lie, names that change, old routes", "503, and nobody inside hears anything",
        f"{len(paths)} routes: {first}, then {dict(statuses)}, {len(doors.heard)} connections",
        holds=first.get(200) == 2 and set(statuses) == {503} and not doors.heard,
    )  # fmt: skip
    traces = [line for line in knocker.process.lines if "Traceback" in line]
    promise("routes to inside", "no traceback", len(traces), holds=not traces)
    assert not doors.heard + traces


def test_a_redirect_of_a_service_is_not_followed(knocker: Knocker, doors: Doors, promise: Promise) -> None:
    """It is the client's to follow, or not."""
    service = Redirector(f"http://{DOORS[0]}:{doors.port}/", *REDIRECTS)
    try:
        path = knocker.smuggle(f"http://127.0.0.1:{service.port}")
        wait_until(lambda: knocker.ask(path) != 404, timeout_s=10, what="the route to be known")
        statuses = Counter(knocker.ask(f"{path}?{number}") for number in range(16))
    finally:
        service.close()
    promise(
        "a service that redirects to inside", "its answer is passed on, and not obeyed",
        f"{service.asked} answers: {dict(statuses)}, {len(doors.heard)} connections",
        holds=service.asked >= 16 and {302, 308} <= set(statuses) and not doors.heard,
    )  # fmt: skip


def test_no_request_chooses_an_upstream(stage: Stage, doors: Doors, promise: Promise) -> None:
    """The gateway is no open proxy, whatever the request line, Host or a field says; and links are never fetched."""
    door = f"{DOORS[0]}:{doors.port}"
    lines = [
        f"GET http://{door}/ HTTP/1.1\r\nHost: {door}", f"GET / HTTP/1.1\r\nHost: {door}",
        f"CONNECT {door} HTTP/1.1\r\nHost: {door}", f"GET //{door}/ HTTP/1.1\r\nHost: a",
        f"GET /\\{door}/ HTTP/1.1\r\nHost: a", f"GET @{door}/ HTTP/1.1\r\nHost: a",
        f"GET /@{door}/ HTTP/1.1\r\nHost: a", f"GET /http://{door}/ HTTP/1.1\r\nHost: a",
        f"GET :@{door}/ HTTP/1.1\r\nHost: a", f"GET /t/storefront/catalogue/../../{door} HTTP/1.1\r\nHost: a",
        f"GET /t/{door}/x/ HTTP/1.1\r\nHost: a", f"GET /api/products/?url=http://{door}/ HTTP/1.1\r\nHost: a",
        f"GET /static/http://{door}/ HTTP/1.1\r\nHost: a",
        f"GET /api/products/1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: {door}\r\nX-Upstream: {door}",
        f"GET /api/products/1 HTTP/1.1\r\nHost: a\r\nX-Route-Version: http://{door}\r\nX-Route-Env: {door}",
        f"GET /api/products/1 HTTP/1.1\r\nHost: a\r\nX-Original-Host: {door}\r\nX-Accel-Redirect: http://{door}/",
        f"GET /api/products/1 HTTP/1.1\r\nHost: a\r\nOrigin: http://{door}\r\nTrue-Client-IP: {door}",
    ]  # fmt: skip
    statuses: Counter[int] = Counter()
    for line in lines:
        with Client(stage.port("gateway")) as client:
            client.wire.send(f"{line}\r\nConnection: close\r\n\r\n".encode())
            statuses[client.answer().status] += 1
    made = stage.call("POST", "/api/v1/links", {"url": f"http://{door}/"}, key="sharer")
    code = made.body["code"]
    for path in (f"/s/{code}", f"/qr/{code}.svg", f"/links?made={code}", f"/api/v1/links/{code}"):
        stage.call("GET", path, key="sharer")
    promise(
        "requests that name another server", "the gateway is no open proxy",
        f"{len(lines) + 5} requests: {dict(statuses)}, {len(doors.heard)} connections",
        holds=not doors.heard and max(statuses) < 500,
    )  # fmt: skip
