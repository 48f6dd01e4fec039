"""Conversations of bare bytes with a server: what is sent, and which answers come, of which request each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from tests.hostile.framing import Case

PATIENCE_S = 15.0
"""A server that says nothing for so long hangs: its own limits are 10 s."""
PAUSE_S = 0.002
"""Between two packets, so that the server reads them one by one. No result depends on it, only what it is worth."""
AT_ONCE = 16

_ID = re.compile(rb"(?im)^x-request-id: *([^\r\n]*)")
_LENGTH = re.compile(rb"(?im)^content-length: *([0-9]+)")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding: *chunked")

_marks = itertools.count(1)
"""Numbered: of 200,000 random ones of eight hexadecimal digits some are the same, which looks like
a request seen twice."""

T = TypeVar("T")
R = TypeVar("R")


class Way(NamedTuple):
    """A server, and a path of it that takes POST of a media type."""

    name: str
    service: str
    port: int
    path: bytes
    media: bytes = b"application/json"


class Reply(NamedTuple):
    """A final answer: its status, and which request it says it is for."""

    status: int
    request_id: str


@dataclass
class Talk:
    """What came of a conversation.

    Attributes:
        said: names of the requests that were sent, in their order, the canary last.
        ids: their request ids.
        heads: which of them are HEAD, whose answers have no body.
        replies: the final answers.
        closed: whether the server has ended the connection.
        rest: what came and is no answer.
    """

    said: list[str]
    ids: list[str]
    heads: list[bool]
    replies: list[Reply] = field(default_factory=list)
    closed: bool = False
    hung: bool = False
    rest: bytes = b""

    def fault(self) -> str:
        """What is wrong with it; nothing, if every answer belongs to its request, and what is refused is the end."""
        if self.hung:
            return "the server says nothing, and does not close"
        if self.rest:
            return f"what is no answer: {self.rest[:80]!r}"
        if len(self.replies) > len(self.ids):
            return f"{len(self.replies)} answers for {len(self.ids)} requests"
        for number, (reply, wanted) in enumerate(zip(self.replies, self.ids, strict=False)):
            if reply.status >= 500:
                return f"answer {number + 1} is {reply.status}"
            if reply.request_id == wanted:
                continue
            if not 400 <= reply.status < 500:
                return (
                    f"answer {number + 1}, {reply.status}, is for {reply.request_id or 'nobody'} and not for {wanted}"
                )
            if wanted.startswith("canary-") and number > 0:
                return "what comes after a request that was answered is not read as what it is"
            if number + 1 < len(self.replies) or not self.closed:
                return f"answer {number + 1} refuses what cannot be read, and the connection goes on"
        return ""

    def __str__(self) -> str:
        replies = [f"{reply.status} {reply.request_id}" for reply in self.replies]
        return f"{' + '.join(self.said)} -> {replies}{' closed' if self.closed else ''}"


def filled(case: Case, way: Way) -> tuple[bytes, str]:
    """The bytes of a case for a server, and its eight characters."""
    mark = f"{next(_marks):08x}"
    return case.bytes_for(way.path, media=way.media, mark=mark.encode()), mark


def canary() -> tuple[bytes, str]:
    """A harmless request that nobody has sent before, and its id."""
    request_id = f"canary-{next(_marks):08x}"
    return f"GET /{request_id} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {request_id}\r\n\r\n".encode(), request_id


async def talk(way: Way, cases: Sequence[Case], *, split: int | None = None) -> tuple[Talk, list[str]]:
    """Send the cases and a canary behind them, in one packet or two; returns what came, and the marks of the cases.

    What is not whole is sent without a canary, and then the sending side is closed: nothing more will come.
    """
    data, marks, ids = b"", [], []
    for case in cases:
        piece, mark = filled(case, way)
        data += piece
        marks.append(mark)
        ids.append(f"r-{mark}")
    said = [case.name for case in cases]
    whole = all(case.whole for case in cases)
    if whole:
        piece, request_id = canary()
        data += piece
        ids.append(request_id)
        said.append("canary")
    result = Talk(said, ids, [*(case.sent.startswith(b"HEAD ") for case in cases), False])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    except OSError:
        result.hung = True
        return result, marks
    try:
        async with asyncio.timeout(PATIENCE_S):
            sending = asyncio.create_task(_send(writer, data, split, ends=not whole))
            try:
                await _read(reader, result)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    except TimeoutError:
        result.hung = True
    finally:
        writer.transport.abort()
    return result, marks


async def _send(writer: asyncio.StreamWriter, data: bytes, split: int | None, *, ends: bool) -> None:
    with contextlib.suppress(OSError):
        if split is not None:
            writer.write(data[:split])
            await writer.drain()
            await asyncio.sleep(PAUSE_S)
            data = data[split:]
        writer.write(data)
        await writer.drain()
        if ends:
            writer.write_eof()


async def _read(reader: asyncio.StreamReader, result: Talk) -> None:
    """Read answers until the last request's, or the end."""
    while not result.replies or result.replies[-1].request_id != result.ids[-1]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            result.closed, result.rest = True, error.partial
            return
        except (ConnectionError, asyncio.LimitOverrunError):
            result.closed = True
            return
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            result.rest = head
            return
        status = int(head[9:12])
        if status < 200:
            continue
        found = _ID.search(head)
        result.replies.append(Reply(status, found[1].decode("latin-1") if found else ""))
        of_head = result.heads[min(len(result.replies), len(result.heads)) - 1]
        if status not in (204, 304) and not of_head and not await _read_body(reader, head, result):
            result.closed = True
            return
    if result.closed or "canary" in result.said:
        return
    result.closed = True  # it was the last that could be answered


async def _read_body(reader: asyncio.StreamReader, head: bytes, result: Talk) -> bool:
    """Pass over a body; False if the connection ends with it."""
    try:
        if _CHUNKED.search(head):
            while size := int(await reader.readline() or b"0", 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        elif length := _LENGTH.search(head):
            await reader.readexactly(int(length[1]))
        else:
            await reader.read()
            return False
    except (ConnectionError, asyncio.IncompleteReadError):
        return False
    return True


def all_of(work: Callable[[T], Awaitable[R]], items: Iterable[T], *, at_once: int = AT_ONCE) -> list[R]:
    """The results of `work` for each item, so many at a time."""

    async def run() -> list[R]:
        left = iter(items)

        async def worker() -> list[R]:
            return [await work(item) for item in left]

        return [result for results in await asyncio.gather(*(worker() for _ in range(at_once))) for result in results]

    return asyncio.run(run())
