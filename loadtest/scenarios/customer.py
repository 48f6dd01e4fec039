"""Signs up, edits the profile, closes the account: a run leaves no account behind."""

from __future__ import annotations

import uuid
from functools import partial

from locust import tag, task

from loadtest.endpoints import Endpoint
from loadtest.scenarios import content
from loadtest.scenarios.visitor import Visitor


class Customer(Visitor):
    """Accounts are called `load-<random>`, so that any that a killed run leaves are found."""

    weight = 2
    account: int | None = None

    @tag("user", "account")
    @task
    def account_for_a_while(self) -> None:
        """The whole life of an account."""
        # Unique over runs and processes, without asking anybody: not from `random`, which may have a seed.
        name = f"load-{uuid.uuid4().hex[:24]}"
        wanted = {"username": name, "email": f"{name}@load.test"}
        made = self.ask(
            Endpoint.SIGN_UP,
            "/api/v1/users",
            partial(content.user, wanted=wanted),
            wanted=(201,),
            headers={"Idempotency-Key": name},
            json=wanted,
        )
        if not made:
            return
        self.account = made[0]
        path = f"/api/v1/users/{self.account}"
        self.think()
        seen = self.ask(Endpoint.PROFILE, path, partial(content.user, wanted=wanted), with_key=True)
        self.think()
        if seen:
            new = {"full_name": f"Load Test {self.random.randrange(1000)}"}
            edited = partial(content.user, wanted=wanted | new)
            self.ask(Endpoint.EDIT_PROFILE, path, edited, with_key=True, headers={"If-Match": seen[1]}, json=new)
            self.think()
        self.close()

    def close(self) -> None:
        """Remove the account, if there is one."""
        if self.account is not None:
            path, self.account = f"/api/v1/users/{self.account}", None
            self.ask(Endpoint.CLOSE_ACCOUNT, path, lambda _: True, wanted=(204,), with_key=True)

    def on_stop(self) -> None:
        """The run ends in the middle of it."""
        self.close()
