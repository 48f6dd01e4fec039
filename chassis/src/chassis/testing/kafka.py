"""Kafka for tests: the mock cluster of librdkafka, which speaks the protocol, in threads of this process."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import confluent_kafka

PARTITIONS = 4
BROKERS = (1, 2)
_PRODUCE = 0
_TOPIC_AUTHORIZATION_FAILED = 29


def _librdkafka() -> Any:
    """The very library that confluent-kafka is linked to, for the calls that Python's binding leaves out."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    library = ctypes.CDLL(str(found[0]))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_handle_mock_cluster", pointer, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_rtt", number, [pointer, ctypes.c_int32, number]),
        ("rd_kafka_mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
        ("rd_kafka_destroy", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KafkaCluster:
    """Two brokers with one topic, and what they have got.

    Attributes:
        servers: their addresses, `host:port` with commas between them.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        for name, value in ((b"test.mock.num.brokers", b"%d" % len(BROKERS)), (b"log_level", b"0")):
            self._library.rd_kafka_conf_set(configuration, name, value, error, 512)
        self._handle = self._library.rd_kafka_new(0, configuration, error, 512)
        self._cluster = self._library.rd_kafka_handle_mock_cluster(self._handle)
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), PARTITIONS, len(BROKERS))
        self.servers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def down(self) -> None:
        """End the brokers: connections are closed, new ones refused. Their data stays."""
        for broker in BROKERS:
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self) -> None:
        """Start them again."""
        for broker in BROKERS:
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def answer_after(self, delay_ms: int) -> None:
        """Let every answer take so long."""
        for broker in BROKERS:
            self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, delay_ms)

    def refuse(self, count: int) -> None:
        """Answer the next `count` batches of each broker's with an error that the client does not retry."""
        codes = (ctypes.c_int * count)(*[_TOPIC_AUTHORIZATION_FAILED] * count)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, _PRODUCE, count, codes)

    def messages(self) -> list[tuple[int, int, str, dict[str, Any]]]:
        """Route, revision, action and value of everything in the topic, partition by partition."""
        self.answer_after(0)
        found = []
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": self.servers, "group.id": "test", "enable.partition.eof": True, "log_level": 0}
        )
        consumer.assign([confluent_kafka.TopicPartition(self.topic, number, 0) for number in range(PARTITIONS)])
        ends = 0
        while ends < PARTITIONS:
            message: Any = consumer.poll(10)
            if message is None:
                raise TimeoutError("no end of a partition in 10 s")
            if message.error() is not None:
                ends += message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF  # noqa: SLF001 - has no other name
                continue
            headers = dict(message.headers())
            found.append(
                (int(message.key()), int(headers["revision"]), headers["action"].decode(), json.loads(message.value()))
            )
        consumer.close()
        return found

    def close(self) -> None:
        """End the cluster."""
        self._library.rd_kafka_destroy(self._handle)
