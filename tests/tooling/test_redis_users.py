"""Each service's user of Redis, as the scripts that make secrets define it, in a real server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import NoPermissionError

from chassis.servers import ValkeyServer
from gateway.edge.shared_buckets import KEY as LIMIT
from gateway.edge.shared_buckets import SCRIPT as BUCKETS
from gateway.registry.mirror import CHANNEL
from gateway.registry.mirror import NAME as REGISTRY
from links.clicks import KEY as CLICKS
from user.generation import KEY as GENERATION

ROOT = Path(__file__).parents[2]
SERVICES = ("user", "links", "gateway")
KEYS: dict[str, list[str]] = {
    "user": [GENERATION.decode()],
    "links": [CLICKS.decode()],
    "gateway": [REGISTRY, LIMIT % ("address", "127.0.0.1")],
}
"""Some of what each has, by the names in its code."""

As = Callable[[str], Any]


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    """The Secrets of a small cluster, made anew."""
    done = subprocess.run(["sh", "k8s/secrets.sh"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {each["metadata"]["name"]: each["stringData"] for each in yaml.safe_load_all(done.stdout)}


@pytest.fixture
def as_user(private_redis: ValkeyServer, secrets: dict[str, dict[str, str]]) -> Iterator[As]:
    """`as_user(service)` is a client with that service's own user and password."""
    clients: list[Any] = []
    administrator: Any
    with redis.Redis.from_url(private_redis.url) as administrator:
        for line in secrets["redis-secrets"]["users.acl"].splitlines():
            _, name, *words = line.split()
            if name != "default":  # with which we come in here
                administrator.execute_command("ACL", "SETUSER", name, "reset", *words)

    def connect(service: str) -> Any:
        url = secrets[f"{service}-secrets"]["redis_url"].replace("@redis:6379/", f"@127.0.0.1:{private_redis.port}/")
        clients.append(redis.Redis.from_url(url))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_a_service_reaches_its_own_keys_and_no_others(as_user: As) -> None:
    """It reads, writes and removes its own; others' it can neither read nor write, by a script neither."""
    for service in SERVICES:
        client = as_user(service)
        for key in KEYS[service]:
            client.set(key, "1", px=1000)
            assert client.get(key) == b"1"
            client.delete(key)
        for foreign in (key for other in SERVICES if other != service for key in [*KEYS[other], "more"]):
            for command in (
                ("GET", foreign),
                ("SET", foreign, "1"),
                ("HSET", foreign, "k:1", "{}"),
                ("RENAME", KEYS[service][0], foreign),
                ("EVAL", "return redis.call('GET', ARGV[1])", 0, foreign),
            ):
                with pytest.raises((NoPermissionError, redis.ResponseError), match=r"(?i)no permission|NOPERM|ACL"):
                    client.execute_command(*command)


def test_only_the_gateway_speaks_on_its_channel(as_user: As) -> None:
    """What is announced there is a route or a key at once, so nobody else may announce or listen."""
    gateway = as_user("gateway")
    with gateway.pubsub() as listener:
        listener.subscribe(CHANNEL)
        assert listener.get_message(timeout=5)
        assert gateway.publish(CHANNEL, "something") == 1
    for service in ("user", "links"):
        with pytest.raises(NoPermissionError):
            as_user(service).publish(CHANNEL, "something")
        with as_user(service).pubsub() as listener:
            listener.subscribe(CHANNEL)
            with pytest.raises(NoPermissionError):
                listener.get_message(timeout=5)


def test_scripts_of_the_gateway_run(as_user: As) -> None:
    """A script of its own gets at its own keys."""
    key = LIMIT % ("address", "127.0.0.1")
    given = as_user("gateway").execute_command("EVAL", BUCKETS, 1, key, 10, 60, 1, 0)
    assert given[0] == 1


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_empties_or_configures_it(as_user: As, service: str) -> None:
    """Neither everybody's keys nor the server's settings are a service's affair."""
    client = as_user(service)
    for command in (
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    ):
        with pytest.raises(NoPermissionError):
            client.execute_command(*command)
    assert client.ping()
    assert client.info()


def test_compose_and_a_cluster_have_the_same_users(secrets: dict[str, dict[str, str]]) -> None:
    """containers/secrets.sh gives each the same rights; only passwords differ, and it has one user more, who looks."""
    script = (ROOT / "containers/secrets.sh").read_text("utf-8")
    rights = re.compile(r"^ *user (\w+) ((?:on|off)) ?(?:>\S+)?(.*)$", re.MULTILINE)
    here, there = rights.findall(script), rights.findall(secrets["redis-secrets"]["users.acl"])
    assert len(there) == 5
    assert {name for name, *_ in here} - {name for name, *_ in there} == {"exporter"}
    assert [each for each in here if each[0] != "exporter"] == there
