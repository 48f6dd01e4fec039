"""A TCP proxy whose wire can be cut: the network's failures, without waiting for the network."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from chassis.children import free_port

RESEND_S = 0.2
"""After which TCP sends a lost packet again, for the first time (Linux, TCP_RTO_MIN)."""
_HOST = "127.0.0.1"
_GARBLED = bytes(byte ^ 0x15 for byte in range(256))


class CutProxy:
    """Forwards 127.0.0.1:`port` to a target, in a thread of its own, until told otherwise. A context manager.

    `cut`, `hang`, `delay`, `lose`, `garble`, `break_off` and `heal` may be called from any thread and have taken effect
    when they return.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.host = _HOST
        self.port = free_port()
        self.connections = 0
        self._delay_s = 0.0
        self._lost = 0.0
        self._garbles = self._breaks = False
        self._dice = random.Random(1)  # noqa: S311 - the same losses each time
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: set[socket.socket] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"cut-proxy-{self.port}", daemon=True)
        self._thread.start()
        self.heal()

    @property
    def open_connections(self) -> int:
        """How many clients are connected now. `connections` counts all that were ever accepted."""
        return len(self._tasks)

    def url_for(self, url: str) -> str:
        """`url` with our host and port in the place of its own."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{self.host}:{self.port}"))

    def choose(self) -> tuple[str, int]:
        """Host and port that the next connection leads to."""
        return self.target

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._run(self._cut())

    def hang(self) -> None:
        """Accept and swallow in silence: connections are not closed, nothing comes through either way."""
        self._run(self._hang())

    def delay(self, seconds: float) -> None:
        """Hold back every piece of an answer for so long."""
        self._delay_s = seconds

    def lose(self, share: float) -> None:
        """Lose so many of the pieces, either way, as a network does that loses packets: TCP sends them again after
        200 ms, and after twice as long each time that they are lost again.
        """
        self._lost = share

    def garble(self) -> None:
        """Let answers come as something else, of the same length."""
        self._garbles = True

    def break_off(self) -> None:
        """Reset the connection in the middle of an answer's body. Heads, and answers without a body, come whole."""
        self._breaks = True

    def heal(self) -> None:
        """Undo all of it; what hung goes on where it stopped."""
        self._run(self._heal())

    def close(self) -> None:
        """Cut, and end the thread."""
        if self._loop.is_closed():
            return
        self._run(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(5)

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hang(self) -> None:
        await self._listen()
        self._flowing.clear()

    async def _heal(self) -> None:
        self._delay_s = self._lost = 0.0
        self._garbles = self._breaks = False
        self._flowing.set()
        await self._listen()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, self.host, self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not called by asyncio")
        self.connections += 1
        self._tasks.add(task)
        writers = [writer]
        try:
            await self._flowing.wait()
            with contextlib.suppress(OSError):
                target_reader, target_writer = await asyncio.open_connection(*self.choose())
                writers.append(target_writer)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, target_writer))
                    pumps.create_task(self._pump(target_reader, writer, answers=True))
        except asyncio.CancelledError:
            # Swallowed: asyncio would report a cancelled handler as an error of the program.
            for each in writers:
                _reset(each)
        finally:
            for each in writers:
                each.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                if answers and self._delay_s:
                    await asyncio.sleep(self._delay_s)
                again_s = RESEND_S
                while self._lost and self._dice.random() < self._lost:
                    await asyncio.sleep(again_s)
                    again_s *= 2
                await self._flowing.wait()
                if answers and self._garbles:
                    piece = piece.translate(_GARBLED)
                middle = _middle(piece) if answers and self._breaks else 0
                writer.write(piece[: middle or None])
                await writer.drain()
                if middle:
                    _reset(writer)  # and the other side learns of it as the client's end
                    return
            await self._flowing.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _middle(piece: bytes) -> int:
    """Where to break off in a piece of an answer; 0 if it has nothing of a body."""
    body_at = piece.find(b"\r\n\r\n") + 4 if piece.startswith(b"HTTP/") else 0
    return body_at + (len(piece) - body_at) // 2 if len(piece) > body_at else 0


def _reset(writer: asyncio.StreamWriter) -> None:
    """Make the coming close a reset, as of a machine that is gone."""
    wire = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
