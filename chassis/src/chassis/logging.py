"""One log pipeline: every record of the process, gunicorn's included, is one line on stdout."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from pythonjsonlogger.core import merge_record_extra
from pythonjsonlogger.orjson import OrjsonFormatter

from chassis import context

TEXT_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

_SECRET = re.compile(r"(?<=://)[^/\s\"]*@|[^\s@\"'<>()=,:;/\\]+@[^\s@\"'<>()=,:;/\\]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_access = logging.getLogger("access")


class _RequestLines:
    """How request lines are written: by this formatter, straight to stdout (a LogRecord costs twice the line itself),
    or, while it is None, as records of the logger `access`.
    """

    formatter: JsonFormatter | None = None


_requests = _RequestLines()


def _redact(line: str) -> str:
    """Put `***` for credentials in URLs and for e-mail addresses. The `@` test keeps the usual line free of cost."""
    return _SECRET.sub("***", line) if "@" in line else line


class JsonFormatter(OrjsonFormatter):
    """One JSON object a record: fixed fields first, then what `extra=` gave, then the exception if there is one."""

    def __init__(self, *, service: str, version: str) -> None:
        super().__init__()
        self._service = service
        self._version = version

    def format(self, record: logging.LogRecord) -> str:
        extra: dict[str, Any] = merge_record_extra(record, {}, reserved=self.reserved_attrs)
        if record.exc_info:
            extra["exc_info"] = self.formatException(record.exc_info)
        return self.line(record.created, record.levelname, record.name, record.getMessage(), extra)

    def line(self, created_s: float, level: str, logger: str, message: str, extra: dict[str, Any]) -> str:
        """The line of a record made at `created_s` (Unix time), with the ids of the request in hand."""
        request = context.current()
        line = {
            "timestamp": datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "logger": logger,
            "message": message,
            "service": self._service,
            "version": self._version,
            "request_id": request.request_id if request else None,
            "trace_id": request.trace_id if request else None,
            **extra,
        }
        text = orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        if not text.isascii():  # JSON need not escape these, terminals and line readers act on them
            text = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        return _redact(text)


class TextFormatter(logging.Formatter):
    """`LOG_FORMAT=text`, for people. A message cannot forge a second line: control characters are escaped."""

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _redact(super().format(record))


def write_line(line: str) -> None:
    """Put a line on stdout. If nobody reads it any more, it is lost: a service does not die of that."""
    data = line.encode("utf-8", "backslashreplace") + b"\n"
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


class StdoutHandler(logging.Handler):
    """Writes each line with one system call, so that lines of several workers never mix."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record))
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
    level = logging.DEBUG if quiet else logging.INFO
    if not _access.isEnabledFor(level):
        return
    message = f'"{method} {path} {protocol}" {status}'
    fields = {
        "method": method,
        "path": path,
        "route": route,
        "status": status,
        "duration_ms": round(duration_s * 1000, 3),
        "remote_addr": remote_addr,
    }
    if _requests.formatter is not None:
        line = _requests.formatter.line(time.time(), logging.getLevelName(level), _access.name, message, fields)
        write_line(line)
    else:
        _access.log(level, "%s", message, extra=fields)
