"""The last known routes and keys on disk, for a start while every store is away.

The file is one JSON document whose first two lines are a header that can be read by itself:

    {"format":1,"sha256":"<of all that follows this line>",
    "epoch":"…","revision":7,
    "routes":[
    …],
    "keys":[
    …]}
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.registry.codec import chunks, dump, key_of, route_of
from gateway.registry.repository import Snapshot, State

log = logging.getLogger(__name__)

FORMAT = 1
CHUNK = 200
"""Routes that are written at once: half a millisecond, in which no other thread of the process runs."""


class Saved:
    """A file that the workers of a gateway share. Whoever has something newer writes it, one at a time.

    Args:
        directory: made if it is not there, for us alone: the file has the digests of keys.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "routes.json"
        self._new = directory / "routes.json.new"
        self._lock = directory / "routes.lock"

    def load(self) -> Snapshot | None:
        """What was saved last; None if nothing was, or, with a warning, if it is damaged."""
        try:
            with self.path.open("rb") as stream:
                head = _head(stream.readline())
                body = stream.read()
            return _copy(head, body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("The saved routes in %s cannot be used: %s", self.path, error)
            return None

    def position(self) -> State | None:
        """What `load` would have, by the header alone."""
        try:
            with self.path.open("rb") as stream:
                _head(stream.readline())
                return _position(orjson.loads(b"{" + stream.readline().rstrip(b",\n") + b"}"))
        except (OSError, ValueError):
            return None

    def save(self, copy: Snapshot, *, force: bool = False) -> bool:
        """Save `copy` unless the file is as new, which `force` does not ask.

        The file is replaced whole: at any moment, and after a crash, it is the one before or the new one.

        Returns:
            Whether it is saved; False if another process is at it, and may be saving something older.

        Raises:
            OSError: it cannot be.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked() as mine:
            if not mine:
                return False
            held = None if force else self.position()
            if held is None or held.epoch != copy.epoch or held.revision < copy.revision:
                self._write(copy)
        return True

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        with open(self._lock, "ab", opener=_open_private) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True  # the lock goes with the file

    def _write(self, copy: Snapshot) -> None:
        self._new.unlink(missing_ok=True)
        checksum = hashlib.sha256()
        with open(self._new, "xb", opener=_open_private) as stream:
            stream.write(_header(checksum))
            for piece in _pieces(copy):
                checksum.update(piece)
                stream.write(piece)
            stream.seek(0)
            stream.write(_header(checksum))  # as long as the first
            stream.flush()
            os.fsync(stream.fileno())
        self._new.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _header(checksum: hashlib._Hash) -> bytes:
    return b'{"format":%d,"sha256":"%s",\n' % (FORMAT, checksum.hexdigest().encode())


def _pieces(copy: Snapshot) -> Iterator[bytes]:
    """What follows the first line."""
    yield dump({"epoch": copy.epoch, "revision": copy.revision})[1:-1]
    yield b',\n"routes":[\n'
    yield from _rows(copy.routes)
    yield b'],\n"keys":[\n'
    yield from _rows(copy.keys)
    yield b"]}\n"


def _rows(items: Iterable[object]) -> Iterator[bytes]:
    separator = b""
    for chunk in chunks(items, CHUNK):
        yield separator + dump(chunk)[1:-1]
        separator = b",\n"


def _head(line: bytes) -> dict[str, Any]:
    """The first line's fields. Raises ValueError."""
    head = orjson.loads(line.rstrip(b",\n") + b"}")
    if head.get("format") != FORMAT:
        raise ValueError("it is of another format")
    return dict(head)


def _position(fields: dict[str, Any]) -> State:
    try:
        return State(str(fields["epoch"]), int(fields["revision"]))
    except (KeyError, TypeError) as error:
        raise ValueError("it has no revision") from error


def _copy(head: dict[str, Any], body: bytes) -> Snapshot:
    if hashlib.sha256(body).hexdigest() != head.get("sha256"):
        raise ValueError("it is damaged")
    fields = orjson.loads(b"{" + body)
    return Snapshot(
        *_position(fields), [route_of(each) for each in fields["routes"]], [key_of(each) for each in fields["keys"]]
    )
