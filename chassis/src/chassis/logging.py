"""One log pipeline: every record of the process, gunicorn's included, is one line on stdout."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from pythonjsonlogger.core import merge_record_extra
from pythonjsonlogger.orjson import OrjsonFormatter

from chassis import context
from chassis.context import RequestContext

TEXT_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

# Each character is looked at once, whatever the line: words that are no addresses are taken too, and stay as they are.
_SECRET = re.compile(
    r"(?<=://)[^/\s\"]*@"
    r"|(?P<kept>\\(?:u[0-9a-fA-F]{4}|[^u]))"  # of JSON: `\u001f@a` has no address in it, and must stay an escape
    r"|[^\s@\"'<>()=,:;/\\]++(?:@[^\s@\"'<>()=,:;/\\]+|(?P<word>))"
)
_ESCAPED_AT = re.compile(r"%(?:25)*40")
"""The sign in a path that was escaped more than once: who reads the log would undo it."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, ends of lines, and what turns the direction of the text around it."""
_access = logging.getLogger("access")
RequestKind = tuple[str, str, str, str, str, int, str]
"""Level, method, path, protocol, route, status, address of the client."""
_MOST_TEMPLATES = 1024
_REMEMBERED_PATH = 256
"""Lines of requests for longer paths are put together anew each time; so memory is bounded whatever clients ask for."""
_PIPE_BYTES = 4096
"""What a pipe takes in one piece (PIPE_BUF, on Linux)."""
_MOST_TEMPLATE_BYTES = _PIPE_BYTES - 256
"""A longer line of a request, whose ids and times come on top, is made shorter: only the beginning of its path is
logged. In pieces it could be mixed with the lines of other workers."""


class _RequestLines:
    """How request lines are written: by this formatter, straight to stdout (a LogRecord costs twice the line itself),
    or, while it is None, as records of the logger `access`.
    """

    formatter: JsonFormatter | None = None
    write: Callable[[bytes], None] | None = None


_requests = _RequestLines()


def _redact(line: str) -> str:
    """Put `***` for credentials in URLs and for e-mail addresses. The first test keeps the usual line free of cost."""
    return _SECRET.sub(_hidden, line) if "@" in line or "%" in line else line


def _hidden(match: re.Match[str]) -> str:
    kind = match.lastgroup
    is_address = kind is None or (kind == "word" and _ESCAPED_AT.search(match[0]) is not None)
    return "***" if is_address else match[0]


class JsonFormatter(OrjsonFormatter):
    """One JSON object a record: fixed fields first, then what `extra=` gave, then the exception if there is one."""

    def __init__(self, *, service: str, version: str) -> None:
        super().__init__()
        self._service = service
        self._version = version
        self._second = (0, b"1970-01-01T00:00:00")
        self._templates: dict[RequestKind, bytes] = {}

    def format(self, record: logging.LogRecord) -> str:
        extra: dict[str, Any] = merge_record_extra(record, {}, reserved=self.reserved_attrs)
        if record.exc_info:
            extra["exc_info"] = self.formatException(record.exc_info)
        return self.line(record.created, record.levelname, record.name, record.getMessage(), extra).decode()

    def line(self, created_s: float, level: str, logger: str, message: str, extra: dict[str, Any]) -> bytes:
        """The line, without its end, of a record made at `created_s` (Unix time), with the ids of the request."""
        request = context.current()
        line = {
            "timestamp": self._timestamp(created_s).decode(),
            "level": level,
            "logger": logger,
            "message": message,
            "service": self._service,
            "version": self._version,
            "request_id": request.request_id if request else None,
            "trace_id": request.trace_id if request else None,
            **extra,
        }
        return _safe(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS))

    def request_line(self, created_s: float, duration_s: float, request: RequestContext, kind: RequestKind) -> bytes:
        """The same of a request, filled into what all lines of its kind have in common."""
        template = self._templates.get(kind)
        if template is None:
            template = self._template(*kind)
            if len(template) > _MOST_TEMPLATE_BYTES:
                level, method, path, protocol, route, status, remote_addr = kind
                path = f"{path[:_REMEMBERED_PATH]}…"
                template = self._template(level, method, path, protocol, route, status, remote_addr)
            elif len(kind[2]) <= _REMEMBERED_PATH:
                if len(self._templates) >= _MOST_TEMPLATES:
                    self._templates.clear()
                self._templates[kind] = template
        return template % (
            self._timestamp(created_s),
            request.request_id.encode(),
            request.trace_id.encode(),
            duration_s * 1000,
        )

    def _template(
        self, level: str, method: str, path: str, protocol: str, route: str, status: int, remote_addr: str
    ) -> bytes:
        before = {
            "level": level,
            "logger": "access",
            "message": f'"{method} {path} {protocol}" {status}',
            "service": self._service,
            "version": self._version,
        }
        after = {"method": method, "path": path, "route": route, "status": status}
        first, second, last = (
            _safe(orjson.dumps(part))[1:-1].replace(b"%", b"%%")
            for part in (before, after, {"remote_addr": remote_addr})
        )
        return b'{"timestamp":"%%b",%b,"request_id":"%%b","trace_id":"%%b",%b,"duration_ms":%%.3f,%b}' % (
            first,
            second,
            last,
        )

    def _timestamp(self, created_s: float) -> bytes:
        second = int(created_s)
        known = self._second  # one object, as threads share it
        if second != known[0]:
            known = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode())
            self._second = known
        return b"%b.%03d+00:00" % (known[1], (created_s - second) * 1000)


_UNSAFE = re.compile(rb"[@%\x7f]")


def _safe(data: bytes) -> bytes:
    """JSON without secrets, and without what terminals and line readers act on: it need not escape control characters
    beyond ASCII, nor DEL.
    """
    if data.isascii() and not _UNSAFE.search(data):
        return data
    return _redact(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", data.decode())).encode()


class TextFormatter(logging.Formatter):
    """`LOG_FORMAT=text`, for people. A message cannot forge a second line: control characters are escaped."""

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _redact(super().format(record))


def write_line(line: bytes) -> None:
    """Put a line on stdout. If nobody reads it any more, it is lost: a service does not die of that."""
    data = line + b"\n"
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


class Batch:
    """Request lines of an event loop, written together when it has done what it has in hand.

    No more than a pipe takes in one piece go in one write.

    Args:
        call_soon: the loop's.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._lines: list[bytes] = []
        self._size = 0

    def write(self, line: bytes) -> None:
        """Write `line` soon, after those before it."""
        size = len(line) + 1
        if self._size + size > _PIPE_BYTES:
            self.flush()
        if not self._lines:
            self._call_soon(self.flush)
        self._lines.append(line)
        self._size += size

    def flush(self) -> None:
        """Write what there is."""
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            write_line(b"\n".join(lines))


def batch_requests(batch: Batch | None) -> None:
    """Write request lines by `batch`; None: each at once, as before."""
    _requests.write = None if batch is None else batch.write


class Seldom:
    """Whether something that every request may run into is said now: once in `every_s`."""

    def __init__(self, *, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._again_s = 0.0

    def may_say(self) -> bool:
        """True once, and again when the time is over."""
        now_s = time.monotonic()
        if now_s < self._again_s:
            return False
        self._again_s = now_s + self._every_s
        return True


class StdoutHandler(logging.Handler):
    """Writes each line with one system call, so that lines of several workers never mix."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record).encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - as the standard library's handlers do: a log call never raises
            self.handleError(record)


def configure(*, service: str, version: str, level: str = "INFO", log_format: str = "json") -> None:
    """Send every logger of this process to stdout in one format. Calling it again replaces what was set before."""
    # Nobody prints these, and looking them up is a third of the cost of a record (logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = StdoutHandler()
    json_formatter = None if log_format == "text" else JsonFormatter(service=service, version=version)
    handler.setFormatter(json_formatter or TextFormatter())
    _requests.formatter = json_formatter
    _requests.write = None
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def access(
    *, method: str, path: str, protocol: str, route: str, status: int, duration_s: float, remote_addr: str, quiet: bool
) -> None:
    """Log one request. `path` comes without its query, which may hold personal data; `quiet` (probes) logs at DEBUG."""
    level, name = (logging.DEBUG, "DEBUG") if quiet else (logging.INFO, "INFO")
    if not _access.isEnabledFor(level):
        return
    formatter, request = _requests.formatter, context.current()
    if formatter is not None and request is not None:
        kind = (name, method, path, protocol, route, status, remote_addr)
        (_requests.write or write_line)(formatter.request_line(time.time(), duration_s, request, kind))
        return
    fields = {
        "method": method,
        "path": path,
        "route": route,
        "status": status,
        "duration_ms": round(duration_s * 1000, 3),
        "remote_addr": remote_addr,
    }
    _access.log(level, "%s", f'"{method} {path} {protocol}" {status}', extra=fields)
