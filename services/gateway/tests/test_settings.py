"""The gateway's settings: defaults and bad values."""

from __future__ import annotations

import pytest

from chassis.settings import SettingsError, load
from gateway.settings import Settings


def test_defaults() -> None:
    """Section 1 and 2 of the contract: ports, ten seconds, 64 KiB; nobody is trusted."""
    settings = load(Settings)
    assert (settings.port, settings.catalogue_url, settings.user_url) == (
        8000, "http://127.0.0.1:5000", "http://127.0.0.1:5001",
    )  # fmt: skip
    assert (settings.request_timeout_ms, settings.max_body_bytes) == (10_000, 65_536)
    assert (settings.upstream.connect_timeout_ms, settings.upstream.idle_s) == (1000, 50)
    assert settings.trusted_proxies == ()


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat names there, groups in code."""
    monkeypatch.setenv("USER_URL", "http://users:5001/")
    monkeypatch.setenv("UPSTREAM_IDLE_S", "20")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1")
    settings = load(Settings)
    assert settings.user_url == "http://users:5001"
    assert settings.upstream.idle_s == 20
    assert settings.trusted_proxies == ("10.0.0.0/8", "192.0.2.1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CATALOGUE_URL", "https://shop"), ("CATALOGUE_URL", "shop:5000"), ("CATALOGUE_URL", "http://a/path"),
        ("CATALOGUE_URL", "http://u:p@a"), ("CATALOGUE_URL", "http://a:99999"), ("CATALOGUE_URL", "http://"),
        ("CATALOGUE_URL", "http://a?x"), ("CATALOGUE_URL", "http://bücher"), ("USER_URL", "http://a b"),
        ("USER_URL", "http://a\r\nX: 1"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"), ("TRUSTED_PROXIES", "10.0.0.1/8"), ("INTERNAL_NETWORKS", "localhost"),
        ("MAX_IN_FLIGHT", "0"), ("UPSTREAM_MAX_CONNECTIONS", "many"), ("UPSTREAM_IDLE_S", "0"),
        ("CLIENT_HEAD_TIMEOUT_MS", "1"), ("PORT", "70000"), ("KAFKA_BOOTSTRAP_SERVERS", "localhost"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:0"), ("KAFKA_TOPIC", "two words"),
    ],
)  # fmt: skip
def test_a_bad_value_stops_the_start_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """One line that names the variable and what it wants."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert str(caught.value).startswith(f"{name}: ")
    assert "want " in str(caught.value)
    assert str(caught.value).count("\n") == 0
