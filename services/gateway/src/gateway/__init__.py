"""The gateway: one door for every service of the storefront, and the registry of what is behind it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chassis.cache import Cache as Redis
from chassis.database import Database, install_wait_callback
from chassis.health import Health
from chassis.lifecycle import Lifecycle
from chassis.metrics import Metrics
from gateway import registry
from gateway.edge.access import Access
from gateway.edge.app import Edge
from gateway.edge.cache import Cache
from gateway.edge.expected import expect
from gateway.edge.headers import Peers
from gateway.edge.limits import Limiter
from gateway.edge.local import endpoints
from gateway.edge.observe import Observer
from gateway.edge.overview import Overview
from gateway.edge.proxy import Proxy
from gateway.edge.routes import Router
from gateway.edge.status import ServiceStatus
from gateway.edge.upstream import Upstreams
from gateway.policy import UpstreamPolicy
from gateway.registry.feed import Feed
from gateway.registry.house import TENANT, house_routes
from gateway.registry.keys import Keyring, read_admin_key
from gateway.registry.mount import Mounted
from gateway.registry.relay import create_relay
from gateway.registry.repository import Registry
from gateway.registry.resolve import Resolver
from gateway.registry.table import Table

if TYPE_CHECKING:
    from gateway.edge.upstream import Resolver as NameResolver
    from gateway.registry.keys import ApiKey
    from gateway.registry.table import Change
    from gateway.settings import Settings


def create_app(settings: Settings, *, addresses_of: NameResolver | None = None) -> Edge:
    """The ASGI application for `settings`. Threads and connections begin with the server's lifespan.

    Args:
        addresses_of: says which addresses the name of an upstream has; by default the machine does.
    """
    metrics = Metrics(service="gateway", version=settings.app_version, commit=settings.commit)
    lifecycle = Lifecycle()
    timeout_s = settings.request_timeout_ms / 1000

    # First the stores. The gateway serves without any of them.
    install_wait_callback()
    database = None
    if settings.has_database:
        database = Database(settings.db, application="gateway", metrics=metrics)
        lifecycle.on_stop(database.close)
    redis = Redis(settings.redis, metrics=metrics)
    lifecycle.on_stop(redis.close)

    # Then what every request is measured by: routes and keys, in memory, and the feed that keeps them true.
    house = house_routes(settings)
    services = [route.service for route in house]
    table = Table(house)
    admin = read_admin_key(settings.gateway_admin_key_file)
    keyring = Keyring([admin] if admin else [])
    stored = Registry(database) if database is not None else None
    feed = Feed(
        table, keyring, registry=stored, cache=redis, metrics=metrics, state_dir=settings.gateway_state_dir
    )  # fmt: skip
    feed.load()
    relay = create_relay(settings, metrics)

    # The control plane.
    def announce(changes: Iterable[Change] = (), keys: Iterable[ApiKey] = ()) -> None:
        feed.announce(changes, keys)
        relay.notify()

    policy = UpstreamPolicy(settings)
    resolver = Resolver(table, env=settings.gateway_env)
    flask = registry.create_app(
        settings, resolver=resolver, registry=stored, feed_announce=announce, policy=policy, metrics=metrics
    )

    # The data plane.
    peers = Peers(
        trusted=map(ipaddress.ip_network, settings.trusted_proxies),
        internal=map(ipaddress.ip_network, settings.internal_networks),
    )
    upstreams = Upstreams(settings, policy=policy, metrics=metrics, resolver=addresses_of)
    proxy = Proxy(
        upstreams, peers=peers, metrics=metrics, env=settings.gateway_env, timeout_s=timeout_s, services=services
    )
    status = ServiceStatus(table, upstreams, env=settings.gateway_env)

    # What operators see of it all.
    features = ["registry"] * (stored is not None) + ["events"] * bool(settings.kafka.bootstrap_servers)
    health = Health(service="gateway", version=settings.app_version, features=features)
    if database is not None:
        health.add("database", database.check, required=False)
        health.add("routes", feed.check, required=False)
    if redis.configured:
        health.add("cache", redis.check, required=False)
    if settings.kafka.bootstrap_servers:
        health.add("kafka", relay.check, required=False)
    for service in status.services():
        health.add(service, status.check_of(service), required=False)
    overview = Overview(
        table=table,
        metrics=metrics,
        house=TENANT,
        instances=upstreams.instances_of,
        confirmed_s=lambda: feed.facts().confirmed_s,
        workers=settings.web_concurrency,
    )

    local = endpoints(health=health, status=status, overview=overview, metrics=metrics, peers=peers)
    observer = Observer(metrics)
    limiter = Limiter(settings, metrics=metrics)
    names = [endpoint.name for endpoint in local.values()]
    expect(observer, limiter, services=services, local=names, registry=flask)

    lifecycle.background("metrics-sampler", metrics.sample, interval_s=settings.metrics_sample_seconds)
    return Edge(
        settings,
        lifecycle=lifecycle,
        peers=peers,
        endpoints=local,
        resolver=resolver,
        registry=Mounted(flask),
        router=Router(table, env=settings.gateway_env),
        access=Access(keyring, metrics=metrics),
        limiter=limiter,
        cache=Cache(settings.cache, proxy, metrics, timeout_s=timeout_s),
        upstreams=upstreams,
        observer=observer,
        feed=feed,
        relay=relay,
    )
