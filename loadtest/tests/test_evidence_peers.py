"""Peers: what stands in the report, also where some of them cannot be had; Envoy's configuration."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from loadtest.baseline import envoy
from loadtest.errors import BenchError
from loadtest.evidence import peers
from loadtest.generator import Load
from loadtest.memory import Memory
from loadtest.subjects import OPTIONAL, SUBJECTS, chosen, require_envoy


def seen(per_second: int) -> peers.Seen:
    """Five rounds of a server that answers so many a second, at 100 us each."""
    load = Load(
        requests=per_second, seconds=1.0, p50_ms=1, p99_ms=2, max_ms=3, bad_status=0, socket_errors=0, timeouts=0,
        server_cpu_s=per_second * 100e-6,
    )  # fmt: skip
    return peers.Seen(loads=[load] * 5, memory=Memory(once=64 * 2**20, rss_sum=128 * 2**20))


def test_every_peer_is_a_subject_with_a_picture() -> None:
    """What is measured can be started, and each is in one picture."""
    assert set(peers.WORDS) <= set(SUBJECTS)
    assert sorted(name for names in peers.GROUPS.values() for name in names) == sorted(peers.WORDS)


def test_ratios_costs_and_verdicts() -> None:
    """A ratio is ours over the peer's; a million answers at 100 us are 100 CPU seconds."""
    part = peers.part({"edge": seen(6000), "nginx-proxy": seen(60_000), "flask-proxy": seen(2000)}, {})
    row = part.tables[0].rows[part.tables[0].data.index("edge")]
    assert row[2:] == (6000, 0, 2, pytest.approx(100), 64, pytest.approx(0.1))
    claims = {claim.id: claim for claim in part.claims}
    assert claims["peers-edge-flask-proxy"].verdict == "holds"
    assert set(claims) == {"peers-edge-flask-proxy"}  # nothing is demanded of nginx, and the others are not there
    json.dumps(part.record())


def test_a_peer_that_cannot_be_had_is_named() -> None:
    """With the reason, and nothing fails."""
    part = peers.part({"edge": seen(6000)}, {"envoy-proxy": "Envoy is not installed"})
    assert ("envoy-proxy", "not measured: Envoy is not installed") in [tuple(row[:2]) for row in part.tables[0].rows]
    assert "envoy-proxy" not in part.runs


def test_a_missing_envoy_is_no_error_of_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench leaves it out unless it is named; then the remedy is told."""

    def nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    assert "envoy-proxy" in OPTIONAL
    assert "envoy-proxy" not in chosen([])[0]
    assert chosen(["envoy-proxy"])[0] == ["envoy-proxy"]
    with pytest.raises(BenchError, match=r"requirements/peers\.txt"):
        require_envoy()


def test_envoy_listens_and_asks_where_it_is_told() -> None:
    """On this machine alone, with no log, no admin port and no cap that nginx has not."""
    text = envoy.configuration(port=1234, upstream="127.0.0.1:9")
    resources = json.loads(text)["static_resources"]
    assert resources["listeners"][0]["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 1234}}
    cluster = resources["clusters"][0]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 9}}
    assert "access_log" not in text
    assert "admin" not in json.loads(text)
    assert "/health/live" in text
