"""The services of the storefront that have a dashboard. One more service is one more entry."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """A service, by the name that it has in metrics. `about` is a sentence for people.

    `database` and `cache`: it uses PostgreSQL, Redis.
    """

    name: str
    about: str
    database: bool = True
    cache: bool = True


SERVICES = (
    Service("gateway", "The edge: what shoppers see. Its routes and upstreams have a dashboard of their own."),
    Service("catalogue", "Products, from PostgreSQL, or from a file while that is away.", cache=False),
    Service("user", "Users, from PostgreSQL, with pages of them in Redis."),
    Service("links", "Short links: Redis knows where they lead and counts the clicks, PostgreSQL keeps both."),
)
