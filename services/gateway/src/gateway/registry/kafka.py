"""Kafka, as far as the relay needs it: an idempotent producer, and whether a broker answers."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gateway.registry.outbox import Event
from gateway.settings import KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

log = logging.getLogger(__name__)

MESSAGE_TIMEOUT_MS = 10_000
"""A message that could not be delivered for so long is reported as failed, and counted. It is sent again after that."""

_PRODUCER = {
    "client.id": "storefront-gateway",
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 0,
    "message.timeout.ms": MESSAGE_TIMEOUT_MS,
    "request.timeout.ms": 5000,
    "reconnect.backoff.max.ms": 1000,  # ten seconds, the default, is long for one that waits for Kafka's return
    "partitioner": "murmur2_random",  # a key's partition is the one that Java's clients take
    "log.connection.close": False,
}


class PublisherBroken(Exception):
    """The producer can do no more; a new one may."""


class Publisher:
    """Sends events in order of their `send`, those of one route to one partition. For one thread.

    Threads of the client library begin here, so it is made after the fork and only where it is used; the library
    is loaded here too, as it takes more memory than the rest of the registry.

    Args:
        done: called from `serve` and `send` with an event and None when it has arrived, or the name of the error when
            the try was given up. It may call `send`.
        on_unreachable: called from `serve` when no broker can be reached.
    """

    def __init__(
        self, settings: KafkaSettings, *, done: Callable[[Event, str | None], None], on_unreachable: Callable[[], None]
    ) -> None:
        from confluent_kafka import KafkaError, KafkaException, Producer

        self._refusal = KafkaException
        self._fatal_code, self._unreachable_code = KafkaError._FATAL, KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
        self._topic = settings.topic
        self._done = done
        self._on_unreachable = on_unreachable
        self._fatal: str | None = None
        servers = ",".join(settings.bootstrap_servers)
        self._producer = Producer(
            {**_PRODUCER, "bootstrap.servers": servers, "error_cb": self._heed}, logger=_ClientLog()
        )

    def send(self, event: Event) -> None:
        """Hand `event` over to be delivered; `done` may be called before this returns. Raises PublisherBroken."""

        def report(error: KafkaError | None, _message: object) -> None:
            self._done(event, None if error is None else error.name())

        headers: list[tuple[str, str | bytes | None]] = [("revision", str(event.revision)), ("action", event.action)]
        try:
            self._producer.produce(
                self._topic, event.payload, key=str(event.route_id), headers=headers, on_delivery=report
            )
        except BufferError:
            self._done(event, "QUEUE_FULL")
        except self._refusal as refusal:  # what is known of the topic, for a while: that we may not write to it, say
            error = refusal.args[0]
            if error.fatal() or error.code() == self._fatal_code:
                raise PublisherBroken(error.name()) from refusal
            self._done(event, error.name())

    def serve(self, limit_s: float) -> None:
        """Wait until something has happened, `limit_s` at most, and tell about it. Raises PublisherBroken."""
        self._producer.poll(limit_s)
        if self._fatal is not None:
            raise PublisherBroken(self._fatal)

    def close(self) -> None:
        """Forget what has not been delivered, also what is on its way, and end the threads."""
        self._done = _forget
        self._producer.purge()
        self._producer.close()

    def _heed(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.name()
        elif error.code() == self._unreachable_code:
            self._on_unreachable()


def _forget(_event: Event, _error: str | None) -> None:
    """What a publisher that closes has to say of its events: nothing. They are in the outbox."""


class _ClientLog:
    """Where the client library logs. It repeats itself for every broker and try: the relay says once what matters."""

    def log(self, _level: int, text: str, *arguments: Any) -> None:
        log.debug(text, *arguments)


_CORRELATION = 0x5F0E
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, _CORRELATION, -1)
"""A whole ApiVersions request, version 0, without a client id: what every broker answers first of all."""


def find_broker(servers: Sequence[str], limit_s: float) -> str:
    """The first of `servers` (host:port) that answers as a Kafka broker does; all together have `limit_s`.

    Raises:
        OSError: none does.
    """
    deadline_s = time.monotonic() + limit_s
    errors: list[OSError] = []
    for tried, server in enumerate(servers):
        host, _, port = server.rpartition(":")
        left_s = max(0.01, deadline_s - time.monotonic()) / (len(servers) - tried)
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left_s) as wire:
                wire.sendall(_API_VERSIONS)
                answer = wire.recv(8, socket.MSG_WAITALL)
                if len(answer) == 8 and struct.unpack(">ii", answer)[1] == _CORRELATION:
                    return server
            errors.append(ConnectionError(f"{server} is no Kafka broker"))
        except OSError as error:
            errors.append(error)
    raise errors[-1] if errors else ConnectionError("no server is named")
