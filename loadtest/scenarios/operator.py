"""Reads where a service is and moves a canary, on routes of its own: the shop's are left alone."""

from __future__ import annotations

import uuid
from functools import partial

from locust import tag, task

from loadtest.endpoints import Endpoint
from loadtest.scenarios import content
from loadtest.scenarios.visitor import Visitor

ROUTES = "/api/v1/routes"
TENANT = "load-test"
WEIGHTS = (10, 50, 100, 0)


class Operator(Visitor):
    """The only one, however many users there are. Two routes of the tenant `load-test` lead to the catalogue."""

    fixed_count = 1

    def on_start(self) -> None:
        """No routes yet; a service name that no other run has."""
        self.service = f"catalogue-{uuid.uuid4().hex[:12]}"
        self.routes: dict[str, tuple[int, str]] = {}

    @tag("registry")
    @task
    def canary(self) -> None:
        """Add both versions, move the canary to all and to nothing, ask at each step, and remove them."""
        shop = f"{ROUTES}/resolve?tenant=storefront&service=catalogue&env=prod"
        url = self.ask(Endpoint.RESOLVE, shop, content.resolved, with_key=True)
        if url and all(self.add(version, url, weight) for version, weight in (("stable", 100), ("canary", 0))):
            for weight in WEIGHTS:
                self.think()  # and every worker knows of the change
                self.move(weight)
                self.think()
                own = f"{ROUTES}/resolve?tenant={TENANT}&service={self.service}&env=prod"
                self.ask(Endpoint.RESOLVE, own, content.resolved, with_key=True)
                path = f"/t/{TENANT}/{self.service}/api/products"
                self.ask(Endpoint.CANARY, path, content.products, with_key=True, headers={"X-Route-Env": "prod"})
        self.remove()

    def add(self, version: str, url: str, weight: int) -> bool:
        """Add a version; whether it is there."""
        name = {"tenant": TENANT, "service": self.service, "env": "prod", "version": version}
        body = {**name, "url": url, "weight": weight}
        look = partial(content.route, version=version, weight=weight)
        made = self.ask(Endpoint.ADD_ROUTE, ROUTES, look, wanted=(201,), with_key=True, json=body)
        if made:
            self.routes[version] = made
        return made is not None

    def move(self, weight: int) -> None:
        """Give the canary another weight."""
        route_id, etag = self.routes["canary"]
        look = partial(content.route, version="canary", weight=weight)
        path, headers = f"{ROUTES}/{route_id}", {"If-Match": etag}
        moved = self.ask(Endpoint.MOVE_CANARY, path, look, with_key=True, headers=headers, json={"weight": weight})
        self.routes["canary"] = moved or (route_id, "*")

    def remove(self) -> None:
        """Remove both, those that there are."""
        while self.routes:
            _, (route_id, _) = self.routes.popitem()
            self.ask(Endpoint.REMOVE_ROUTE, f"{ROUTES}/{route_id}", lambda _: True, wanted=(204,), with_key=True)

    def on_stop(self) -> None:
        """The run ends in the middle of it."""
        self.remove()
