"""Pages through users, as an export does. Reads only."""

from __future__ import annotations

from functools import partial

from locust import tag, task

from loadtest.endpoints import Endpoint
from loadtest.scenarios import content
from loadtest.scenarios.visitor import Visitor

PER_PAGE = 50
MOST_PAGES = 10


class Clerk(Visitor):
    """Follows `next` from the first page, some pages far. Others come and go meanwhile; no user comes twice."""

    weight = 2

    @tag("user", "pages")
    @task
    def walk(self) -> None:
        """From the beginning, to the end or until it has seen enough."""
        path, last = f"/api/v1/users?per_page={PER_PAGE}", 0
        for _ in range(MOST_PAGES):
            look = partial(content.page_of_users, after=last, per_page=PER_PAGE)
            page = self.ask(Endpoint.USERS, path, look, with_key=True)
            if not page or not page[1]:
                return
            last, path = page
            self.think()
