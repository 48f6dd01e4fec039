"""PromQL and LogQL that several dashboards have in common."""

from observability.grafana.generator.model import Query

RATE = "$__rate_interval"

NOT_ASKED_FOR = "health(_live|_ready)?|metrics|(service_)?status|docs(_asset)?|openapi"
"""Endpoints that are about the service itself. rules/recording.yml leaves them out too, and what others answer for
(`tenant`, `unmatched`); dashboards show that.
"""

LATENCY_OBJECTIVE_S = 0.3


def per_second(metric: str, *selectors: str) -> str:
    """The rate of a counter's series that match all `selectors`."""
    return f"rate({metric}{{{', '.join(selectors)}}}[{RATE}])"


def events(metric: str, selector: str, by: str, there: str) -> str:
    """Rates by labels of a counter that has no series until something happens; until then one line at zero.

    `there` selects build_info: whoever is not scraped at all has no line, as a zero would be a lie. `by` is one label
    or more, separated by commas; the first one is `none` on the line at zero.
    """
    first = by.partition(",")[0]
    return (
        f"sum by ({by}) ({per_second(metric, selector)})"
        f' or on () label_replace(0 * sum(build_info{{{there}}}), "{first}", "none", "", "")'
    )


def total(metric: str, selector: str, there: str) -> str:
    """As `events`, all together."""
    return f"sum({per_second(metric, selector)}) or 0 * sum(build_info{{{there}}})"


def quantile(quantile: float, histogram: str, selector: str, by: str = "le") -> str:
    """That quantile of a histogram, by labels that include `le`."""
    return f"histogram_quantile({quantile}, sum by ({by}) (rate({histogram}_bucket{{{selector}}}[{RATE}])))"


def quantiles(histogram: str, selector: str) -> tuple[Query, ...]:
    """Queries for the median, and what one request in twenty and in a hundred takes longer than."""
    return tuple(Query(quantile(share, histogram, selector), name) for share, name in QUANTILES)


def logs(expr: str, legend: str = "", *, instant: bool = False) -> Query:
    """A query to Loki."""
    return Query(expr, legend, instant=instant, source="loki")


QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
