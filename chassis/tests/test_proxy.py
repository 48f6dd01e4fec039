"""The proxy fails as networks fail, and heals."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chassis.testing import CutProxy, wait_until

StartProxy = Callable[[str, int], CutProxy]


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self.request.recv(1000):
                self.request.sendall(piece)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Host and port of a server that sends back what it gets."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        host, port = server.server_address[:2]
        yield str(host), port
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: tuple[str, int], cut_proxy: StartProxy) -> CutProxy:
    """A proxy in front of it."""
    return cut_proxy(*echo)


def _connect(proxy: CutProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def _answers(client: socket.socket) -> bool:
    client.sendall(b"ping")
    return client.recv(100) == b"ping"


def test_passes_everything_through(proxy: CutProxy) -> None:
    """Bytes go both ways, connections are counted, and the end of one side reaches the other."""
    with _connect(proxy) as client:
        assert _answers(client)
        assert (proxy.connections, proxy.open_connections) == (1, 1)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    wait_until(lambda: proxy.open_connections == 0)
    assert proxy.connections == 1


def test_puts_itself_into_a_url() -> None:
    """`url_for` changes host and port, and keeps credentials, path and query."""
    with CutProxy("127.0.0.1", 1) as proxy:
        ours = f"127.0.0.1:{proxy.port}"
        assert proxy.url_for("postgresql://me:p%40s@db:5432/x?y=1") == f"postgresql://me:p%40s@{ours}/x?y=1"
        assert proxy.url_for("http://db/") == f"http://{ours}/"


def test_cut_resets_and_refuses(proxy: CutProxy) -> None:
    """After `cut` old connections are reset and new ones refused, until `heal`."""
    with _connect(proxy) as client:
        assert _answers(client)
        proxy.cut()
        with pytest.raises(ConnectionError):
            _answers(client)
    with pytest.raises(ConnectionRefusedError):
        _connect(proxy)
    assert proxy.open_connections == 0
    proxy.heal()
    with _connect(proxy) as client:
        assert _answers(client)


def test_hang_swallows_in_silence(proxy: CutProxy) -> None:
    """While hung, old and new connections stay open and silent; healed, both get their answers."""
    with _connect(proxy) as old:
        assert _answers(old)
        proxy.hang()
        with _connect(proxy) as new:
            for client in (old, new):
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    _answers(client)
            proxy.heal()
            for client in (old, new):
                client.settimeout(5)
                assert client.recv(100) == b"ping"


def test_a_cut_ends_a_hang(proxy: CutProxy) -> None:
    """Connections that hang can still be reset."""
    proxy.hang()
    with _connect(proxy) as client:
        wait_until(lambda: proxy.open_connections == 1)
        proxy.cut()
        with pytest.raises(ConnectionError):
            _answers(client)


def test_delays_answers(proxy: CutProxy) -> None:
    """With `delay` an answer takes at least so long."""
    proxy.delay(0.2)
    with _connect(proxy) as client:
        before = time.monotonic()
        assert _answers(client)
        assert time.monotonic() - before >= 0.2


def test_a_dead_target_closes_the_connection(cut_proxy: StartProxy, free_port: int) -> None:
    """If nothing listens behind the proxy, the client is disconnected, not left waiting."""
    with _connect(cut_proxy("127.0.0.1", free_port)) as client:
        assert client.recv(1) == b""


def test_closing_leaves_no_thread() -> None:
    """`close` ends thread and connections, and may be called twice."""
    proxy = CutProxy("127.0.0.1", 1)
    proxy.close()
    proxy.close()
    assert f"cut-proxy-{proxy.port}" not in [thread.name for thread in threading.enumerate()]


def test_lost_pieces_come_late_and_in_order(proxy: CutProxy) -> None:
    """Some are sent again after 200 ms; nothing is missing."""
    with _connect(proxy) as client:
        proxy.lose(0.5)
        began_s = time.monotonic()
        for number in range(4):
            client.sendall(b"%d" % number)
            assert client.recv(10) == b"%d" % number
        assert time.monotonic() - began_s > 0.2
        proxy.heal()
        client.sendall(b"again")
        assert client.recv(10) == b"again"


def test_answers_come_as_garbage(proxy: CutProxy) -> None:
    """As long as they were, and nothing like them."""
    with _connect(proxy) as client:
        proxy.garble()
        client.sendall(b"HTTP/1.1 200 OK")
        assert client.recv(100) == bytes(byte ^ 0x15 for byte in b"HTTP/1.1 200 OK")


def test_answers_break_off_in_the_middle_of_their_body(proxy: CutProxy) -> None:
    """The head and half of the body, and then a reset; a head alone comes through."""
    proxy.break_off()
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with _connect(proxy) as client:
        client.sendall(head)
        assert client.recv(100) == head
        client.sendall(head + b"body")
        assert client.recv(100) == head + b"bo"
        with pytest.raises(ConnectionResetError):
            client.recv(100)
