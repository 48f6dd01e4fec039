"""The answers that are kept, within a budget of bytes: what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from gateway.edge.cache.entry import Entry

Key = tuple[str, bytes | None, str, bytes, bytes]
"""URL of the route, host, scheme, path, query."""

MAX_VARIANTS = 16
"""Answers to one key that differ by `Vary`; what is used least recently makes room."""
KEY_BYTES = 500
"""About what CPython takes for the objects of a key; its texts come on top."""


class Variants:
    """The answers under one key, the newest first."""

    __slots__ = ("entries", "names", "size")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.names: tuple[bytes, ...] = ()  # every field that any of them varies by
        self.size = 0

    def find(self, headers: Mapping[bytes, bytes]) -> Entry | None:
        """The newest one that answers a request with these fields."""
        for entry in self.entries:
            if not entry.selected_by or entry.answers(headers):
                return entry
        return None


class Store:
    """Not safe for threads: it belongs to an event loop.

    Args:
        max_bytes: the budget, for keys, fields, bodies and what holds them together.
        evicted: called with the number of answers that had to make room.
    """

    def __init__(self, max_bytes: int, *, evicted: Callable[[int], None]) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.entries = 0
        self._evicted = evicted
        self._variants: OrderedDict[Key, Variants] = OrderedDict()

    def get(self, key: Key) -> Variants | None:
        """What is kept under `key`."""
        variants = self._variants.get(key)
        if variants is not None:
            self._variants.move_to_end(key)
        return variants

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep `entry` in place of what answers the same requests. Returns whether there is room for it at all."""
        size = key_size(key)
        if size + entry.size > self.max_bytes:
            self.discard(key, entry)
            return False
        variants = self._variants.get(key)
        if variants is None:
            variants = self._variants[key] = Variants()
            self._grow(variants, size)
        else:
            self._variants.move_to_end(key)
            self._remove(variants, [kept for kept in variants.entries if kept.selected_by == entry.selected_by])
        variants.entries.insert(0, entry)
        self.entries += 1
        self._grow(variants, entry.size)
        _name(variants)
        while len(variants.entries) > MAX_VARIANTS or (self.bytes > self.max_bytes and len(self._variants) == 1):
            self._remove(variants, variants.entries[-1:])
            _name(variants)
            self._evicted(1)
        while self.bytes > self.max_bytes:
            gone = self._forget(next(iter(self._variants)))
            self._evicted(gone)
        return True

    def discard(self, key: Key, entry: Entry) -> None:
        """Forget what answers the same requests as `entry`."""
        variants = self._variants.get(key)
        if variants is not None:
            self._remove(variants, [kept for kept in variants.entries if kept.selected_by == entry.selected_by])
            if variants.entries:
                _name(variants)
            else:
                self._forget(key)

    def drop(self, key: Key) -> int:
        """Forget all that is kept under `key`; returns how many answers that were."""
        return self._forget(key) if key in self._variants else 0

    def __len__(self) -> int:
        return self.entries

    def _forget(self, key: Key) -> int:
        variants = self._variants.pop(key)
        self.bytes -= variants.size
        self.entries -= len(variants.entries)
        return len(variants.entries)

    def _remove(self, variants: Variants, entries: list[Entry]) -> None:
        for entry in entries:
            variants.entries.remove(entry)
            self.entries -= 1
            self._grow(variants, -entry.size)

    def _grow(self, variants: Variants, size: int) -> None:
        variants.size += size
        self.bytes += size


def _name(variants: Variants) -> None:
    variants.names = tuple(sorted({name for entry in variants.entries for name, _ in entry.selected_by}))


def key_size(key: Key) -> int:
    """About what a key takes, bytes."""
    url, host, scheme, path, query = key
    return KEY_BYTES + len(url) + len(host or b"") + len(scheme) + len(path) + len(query)
