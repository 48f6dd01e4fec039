"""What `Cache-Control` says, of an answer and of a request (RFC 9111 section 5.2, RFC 5861)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

FOREVER_S = 2**31
"""What a longer time is taken for, as RFC 9111 section 1.2.2 has it."""

# Nothing here is tried in two ways: a client may send 8 KB of quotes and backslashes, and all clients wait meanwhile.
_CLOSED = re.compile(rb'(?:[^"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_ELEMENT = re.compile(rb'(?:[^",]++|"(?:[^"\\]++|\\.)*+")++', re.DOTALL)
_NUMBER = re.compile(rb"[0-9]+")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def elements(value: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """(name in lower case, argument without its quotes; None if it has none) of each directive.

    A quote without its end is no quote: what comes after it is not hidden by it.
    """
    for element in _split(value):
        name, equals, argument = element.partition(b"=")
        name = name.strip(b" \t").lower()
        if name:
            yield name, _unquoted(argument) if equals else None


def _split(value: bytes) -> list[bytes]:
    """What stands between commas that are in no quotes."""
    closed = _CLOSED.match(value)
    end = closed.end() if closed else 0
    found = _ELEMENT.findall(value, 0, end)
    if end < len(value):  # one quote without its end: none behind it has one either
        first, *others = value[end:].split(b",")
        if found and value[end - 1 : end] != b",":
            first = found.pop() + first
        found += [first, *others]
    return found


def _unquoted(argument: bytes) -> bytes:
    stripped = argument.rstrip(b" \t")
    if len(stripped) >= 2 and stripped[:1] == stripped[-1:] == b'"':
        return _ESCAPE.sub(rb"\1", stripped[1:-1])
    return stripped


def seconds(argument: bytes | None) -> int | None:
    """A delta-seconds, None if it is none."""
    if argument is None or not _NUMBER.fullmatch(argument):
        return None
    return FOREVER_S if len(argument) > 10 else min(int(argument), FOREVER_S)


def parse(value: bytes) -> Mapping[bytes, bytes | None]:
    """The directives by name. Given twice with different arguments, one counts as not understood (an empty one)."""
    found: dict[bytes, bytes | None] = {}
    for name, argument in elements(value):
        found[name] = argument if found.get(name, argument) == argument else b""
    return found


class AnswerDirectives(NamedTuple):
    """Of an answer. Times in seconds, None if they are not given; a time that cannot be read is 0.

    `private` and `no-cache` with field names count as without them, which RFC 9111 allows.
    """

    public: bool = False
    private: bool = False
    no_store: bool = False
    no_cache: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None


def of_answer(value: bytes | None) -> AnswerDirectives:
    """The directives of an answer's `Cache-Control`; None: it has none."""
    if value is None:
        return AnswerDirectives()
    found = parse(value)

    def time_s(name: bytes) -> int | None:
        return seconds(found[name]) or 0 if name in found else None

    return AnswerDirectives(
        public=b"public" in found,
        private=b"private" in found,
        no_store=b"no-store" in found,
        no_cache=b"no-cache" in found,
        must_revalidate=b"must-revalidate" in found,
        proxy_revalidate=b"proxy-revalidate" in found,
        max_age_s=time_s(b"max-age"),
        s_maxage_s=time_s(b"s-maxage"),
        stale_while_revalidate_s=time_s(b"stale-while-revalidate"),
        stale_if_error_s=time_s(b"stale-if-error"),
    )


class RequestDirectives(NamedTuple):
    """Of a request. `max_stale_s` is 0 if it is not given, FOREVER_S if it is without an argument."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    min_fresh_s: int = 0
    max_stale_s: int = 0


NOTHING_ASKED = RequestDirectives()


def of_request(cache_control: bytes | None, pragma: bytes | None) -> RequestDirectives:
    """The directives of a request; its `Pragma` counts if it has no `Cache-Control` (RFC 9111 section 5.4).

    What a client asks and cannot be read is taken as the strictest: no answer younger than that, nothing stale.
    """
    if cache_control is None:
        return RequestDirectives(no_cache=pragma is not None and b"no-cache" in parse(pragma))
    found = parse(cache_control)
    max_age_s = min_fresh_s = None
    if b"max-age" in found:
        max_age_s = seconds(found[b"max-age"]) or 0
    if b"min-fresh" in found:
        min_fresh_s = seconds(found[b"min-fresh"])
        min_fresh_s = FOREVER_S if min_fresh_s is None else min_fresh_s
    max_stale_s = 0
    if b"max-stale" in found:
        argument = found[b"max-stale"]
        max_stale_s = FOREVER_S if argument is None else seconds(argument) or 0
    return RequestDirectives(
        no_store=b"no-store" in found,
        no_cache=b"no-cache" in found,
        only_if_cached=b"only-if-cached" in found,
        max_age_s=max_age_s,
        min_fresh_s=min_fresh_s or 0,
        max_stale_s=max_stale_s,
    )
