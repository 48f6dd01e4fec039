"""The gateway's settings: its stores, where services are at first, how long they are waited for, whom to believe."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from chassis.settings import CommaList, DatabaseServiceSettings, Group, RedisSettings

_PRINTABLE = re.compile(r"[!-~]+")
PRIVATE_NETWORKS = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


def check_upstream_url(url: str) -> str:
    """`url` without a slash at its end.

    Raises:
        ValueError: not `http://host[:port]`; the edge speaks plain HTTP to the services behind it.
    """
    parts = urlsplit(url)
    if (
        parts.scheme != "http"
        or not parts.hostname
        or not _PRINTABLE.fullmatch(url)
        or parts.username is not None
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or parts.port == 0  # an impossible port makes `parts.port` raise ValueError itself
    ):
        raise ValueError("want http://host:port")
    return url.rstrip("/")


def check_networks(values: tuple[str, ...]) -> tuple[str, ...]:
    """`values`, each an address or a network in CIDR form.

    Raises:
        ValueError: one is neither.
    """
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"want addresses or networks such as 10.0.0.0/8: {error}") from None
    return values


def check_rate_limits(values: tuple[str, ...]) -> tuple[str, ...]:
    """`values` if every one is a rule; `("off",)` becomes none.

    Raises:
        ValueError: one is not.
    """
    if values == ("off",):
        return ()
    for value in values:
        if not RATE_LIMIT.fullmatch(value):
            raise ValueError(f"{value}: want address=600/min, or key@users=10/sec, or off")
    return values


RATE_LIMIT = re.compile(r"(address|key)(?:@([a-z_]+))?=([1-9][0-9]{0,8})/(sec|min|hour|day)")
_ALLOWED = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::[0-9]{1,5})?", re.IGNORECASE
)


def check_allowed(values: tuple[str, ...]) -> tuple[str, ...]:
    """`values`, each a network, a host name or `*.` and one, the names with a port if only that one is meant.

    Raises:
        ValueError: one is none of these.
    """
    for value in values:
        if not _ALLOWED.fullmatch(value):
            check_networks((value,))
    return values


def check_servers(values: tuple[str, ...]) -> tuple[str, ...]:
    """`values`, each `host:port`.

    Raises:
        ValueError: one is not.
    """
    for value in values:
        found = _SERVER.fullmatch(value)
        if not found or not 1 <= int(found[1]) <= 65535:
            raise ValueError("want host:port")
    return values


_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
EnvName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]
RateLimits = Annotated[CommaList, AfterValidator(check_rate_limits)]
Allowed = Annotated[CommaList, AfterValidator(check_allowed)]
Servers = Annotated[CommaList, AfterValidator(check_servers)]
UpstreamUrl = Annotated[str, AfterValidator(check_upstream_url)]
Networks = Annotated[CommaList, AfterValidator(check_networks)]


class UpstreamSettings(Group):
    """The connections to a service. Numbers are per worker process and service."""

    connect_timeout_ms: int = Field(1000, ge=1, le=60_000, description="longest wait for a new connection, ms")
    max_connections: int = Field(
        256, ge=1, le=10_000, description="requests in flight to one service, per worker; more are answered 503"
    )
    idle_s: float = Field(
        50.0, gt=0, le=3600, description="an idle connection is closed after this; less than the services' 75 s, s"
    )


class ClientSettings(Group):
    """What a client may take. Connections are counted per worker process."""

    max_connections: int = Field(
        4096, ge=1, le=100_000, description="open client connections, per worker; more are answered 503 and closed"
    )
    head_timeout_ms: int = Field(
        10_000, ge=10, le=600_000, description="longest time from connecting to the end of the first request head, ms"
    )
    stall_timeout_ms: int = Field(
        15_000, ge=10, le=600_000, description="longest time in which a client takes nothing of its answer, ms"
    )


class CacheSettings(Group):
    """The shared cache of answers, in each worker."""

    bytes: int = Field(8 * 1024 * 1024, ge=0, description="most bytes of cached answers, per worker; 0: no cache")
    object_bytes: int = Field(1024 * 1024, ge=1, description="largest answer that is cached, bytes")
    stale_if_error_s: int = Field(
        86_400, ge=0, description="how long a stale answer may stand in for a service that fails, unless it says, s"
    )


class KafkaSettings(Group):
    """Where the events of the registry go."""

    bootstrap_servers: Servers = Field((), description="brokers, host:port, comma separated; empty: no events")
    topic: str = Field("route-events", pattern=r"^[A-Za-z0-9._-]{1,249}$", description="topic of the registry's events")


class BreakerSettings(Group):
    """When an instance of a service is left alone."""

    failures: int = Field(5, ge=1, le=1000, description="failures in a row after which an instance is left alone")
    reset_ms: int = Field(1000, ge=10, le=60_000, description="how long, at first; doubled up to 30 s each time, ms")


class Settings(DatabaseServiceSettings):
    """Everything the gateway is configured by."""

    redis: RedisSettings = Field(default_factory=RedisSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    gateway_env: EnvName = Field("prod", description="the environment whose routes are taken unless X-Route-Env says")
    gateway_admin_key_file: Path | None = Field(
        None, description="file with a key of scope admin that holds beside those of the database"
    )
    gateway_state_dir: Path | None = Field(
        None, description="directory of the last known routes and keys, for a start without stores; empty: none"
    )
    gateway_allowed_upstreams: Allowed = Field(
        ("localhost", "127.0.0.0/8", "::1/128"),
        description="where routes may lead: networks, host names, *.names, each with :port if only that; the hosts of "
        "*_URL always",
    )
    catalogue_url: UpstreamUrl = Field("http://127.0.0.1:5000", description="where the catalogue listens, at first")
    user_url: UpstreamUrl = Field("http://127.0.0.1:5001", description="where the user service listens, at first")
    links_url: UpstreamUrl | None = Field(None, description="where the links service listens, at first; empty: nowhere")
    upstream: UpstreamSettings = Field(default_factory=UpstreamSettings)
    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    retry_budget_percent: int = Field(
        20, ge=0, le=100, description="requests that may be sent again, of those sent, per service and worker, %"
    )
    cache: CacheSettings = Field(default_factory=CacheSettings)
    rate_limits: RateLimits = Field(
        ("address=6000/min", "key=60000/min", "key@links=600/min", "key@links_page=60/min"),
        description="requests allowed: <address or key>[@<route>]=<count>/<sec, min, hour or day>, comma separated; "
        "the rule with the route counts first; off: none",
    )
    max_in_flight: int = Field(
        512, ge=1, le=100_000, description="requests in flight, per worker; more are answered 503"
    )
    client: ClientSettings = Field(default_factory=ClientSettings)
    trusted_proxies: Networks = Field(
        (), description="networks of proxies in front whose X-Forwarded-* and Forwarded are believed; empty: none"
    )
    internal_networks: Networks = Field(
        PRIVATE_NETWORKS, description="networks that may see /metrics, /status and the details of /health/ready"
    )

    @property
    def has_database(self) -> bool:
        """Whether there is a registry: DATABASE_URL or DB_HOST says where. Without one, routes come from here."""
        return self.database_url is not None or "host" in self.db.model_fields_set
