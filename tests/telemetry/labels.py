"""What clients make up becomes no label: neither a name nor a number of series comes from them."""

from tests.telemetry.stage import Stage
from tests.telemetry.traffic import ask

_MARK = "zzodd"


def check_labels(stage: Stage) -> list[str]:
    """Two hundred requests with odd paths, methods, hosts, versions and keys make no series that twenty did not."""
    _be_odd(stage, range(20))
    before = _series(stage)
    _be_odd(stage, range(20, 220))
    grown = _series(stage) - before
    return sorted(f"grown: {name}" for name in grown) + sorted(name for name in before if _MARK in name.lower())


def _be_odd(stage: Stage, numbers: range) -> None:
    key = stage.admin_key
    for number in numbers:
        odd = f"{_MARK}{number}"
        kinds: tuple[tuple[str, dict[str, str]], ...] = (
            (f"/{odd}", {}),
            (f"/api/products/{odd}?{odd}={odd}", {"Host": f"{odd}.example.org"}),
            (f"/api/v1/users/{odd}", {"X_API_Key": key, "User_Agent": odd}),
            (f"/s/{odd}", {"X_Caller": odd, "X_Caller_Scopes": odd}),
            (f"/qr/{odd}.svg", {"Referer": f"https://{odd}.example.org/"}),
            (f"/api/v1/links/{odd}", {"X_API_Key": key}),
            (f"/t/{odd}/{odd}/{odd}", {"X_API_Key": key}),
            (f"/t/team-a/shop/{odd}", {"X_API_Key": key, "X_Route_Version": odd, "X_Route_Env": odd}),
            ("/", {"X_API_Key": odd, "X_Request_ID": odd, "Accept_Language": odd}),
        )
        path, headers = kinds[number % len(kinds)]
        ask(stage, path, **headers)
        ask(stage, path, method=f"{_MARK.upper()}{number}", **headers)


def _series(stage: Stage) -> set[str]:
    """Every series of every service's `/metrics`, without its value."""
    texts = [stage.exposition(service) for service in stage.ports]
    return {line.rpartition(" ")[0] for text in texts for line in text.splitlines() if not line.startswith("#")}
