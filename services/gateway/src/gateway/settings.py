"""The gateway's settings: where the services are, how long they are waited for, whom to believe."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from chassis.settings import CommaList, Group, ServiceSettings

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


class Settings(ServiceSettings):
    """Everything the gateway is configured by."""

    catalogue_url: UpstreamUrl = Field("http://127.0.0.1:5000", description="where the catalogue listens")
    user_url: UpstreamUrl = Field("http://127.0.0.1:5001", description="where the user service listens")
    upstream: UpstreamSettings = Field(default_factory=UpstreamSettings)
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
