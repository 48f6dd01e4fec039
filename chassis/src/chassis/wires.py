"""Connections to Redis without a client around them: for hot paths, and where it matters who is at the other end.

redis-py's `Redis` and its pool cost three times what the exchange itself does. A Wire is redis-py's own connection
(time-outs, AUTH, TLS and parsing are its), which also knows which server process it reached.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, parse_url
from redis.retry import Retry

from chassis.settings import RedisSettings

Command = tuple[str | bytes | int, ...]


class _Introduced(AbstractConnection):
    """Mixin for a redis-py connection class: asks the server for its run id as it connects."""

    server_id = ""

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health)
        self.send_command("INFO", "server", check_health=False)  # type: ignore[no-untyped-call]
        try:
            facts = self.read_response()
        except redis.ResponseError:  # an ACL may forbid INFO: then no two connections count as the same server
            self.server_id = uuid.uuid4().hex
            return
        lines = dict(line.partition(b":")[::2] for line in facts.splitlines())
        self.server_id = lines.get(b"run_id", uuid.uuid4().hex.encode()).decode()


class Wires:
    """Idle connections to one server, last used first. There are as many as there were callers at once."""

    def __init__(self, settings: RedisSettings) -> None:
        self.timeout_s = settings.timeout_ms / 1000
        url = settings.url.get_secret_value() if settings.url else ""
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        base = options.pop("connection_class", Connection)
        self._class: Any = type("IntroducedConnection", (_Introduced, base), {})
        self._options = {
            **options,
            "protocol": 2,  # no push messages: an answer read is the answer to what was sent
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
        }
        self._idle: deque[Any] = deque()

    def connect(self) -> Any:
        """A new connection that is the caller's alone: redis-py's, with `server_id` besides.

        Raises: redis.RedisError.
        """
        connection = self._class(**self._options)
        connection.connect()
        return connection

    def exchange(self, build: Callable[[str], Command]) -> Any:
        """Send `build(server_id)` and return the answer.

        `server_id` names the run of the server process that will get the command: it changes when the server restarts.
        A connection that the server closed while it was idle is replaced and the command sent again, so give it only
        commands that may run twice.

        Raises: redis.RedisError.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = None
        if connection is not None:
            try:
                return self._ask(connection, build)
            except redis.TimeoutError:
                raise
            except redis.ConnectionError:
                self.close()  # what closed one of them closed them all, most likely
        return self._ask(self.connect(), build)

    def _ask(self, connection: Any, build: Callable[[str], Command]) -> Any:
        try:
            connection.send_command(*build(connection.server_id), check_health=False)
            answer = connection.read_response()
        except redis.ResponseError:  # an answer like any other
            self._idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                return
