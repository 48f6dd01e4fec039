"""Shortens a link, which people follow, and removes it."""

from __future__ import annotations

import uuid
from functools import partial

from locust import tag, task

from loadtest.endpoints import Endpoint
from loadtest.scenarios import content
from loadtest.scenarios.visitor import Visitor


class Sharer(Visitor):
    """The code of a removed link stays taken, as the service promises: rows stay, and lead nowhere."""

    weight = 2
    code: str | None = None

    @tag("links")
    @task
    def share(self) -> None:
        """The whole life of a link."""
        url = f"https://example.com/load/{uuid.uuid4().hex}"
        made = partial(content.link, url=url)
        self.code = self.ask(Endpoint.SHORTEN, "/api/v1/links", made, wanted=(201,), with_key=True, json={"url": url})
        if self.code is None:
            return
        for _ in range(self.random.randint(2, 6)):
            self.think()
            self.ask(Endpoint.FOLLOW, f"/s/{self.code}", partial(content.redirect, url=url), wanted=(302,))
        self.ask(Endpoint.LINK, f"/api/v1/links/{self.code}", made, with_key=True)
        self.think()
        self.remove()

    def remove(self) -> None:
        """Remove the link, if there is one."""
        if self.code is not None:
            path, self.code = f"/api/v1/links/{self.code}", None
            self.ask(Endpoint.REMOVE_LINK, path, lambda _: True, wanted=(204,), with_key=True)

    def on_stop(self) -> None:
        """The run ends in the middle of it."""
        self.remove()
