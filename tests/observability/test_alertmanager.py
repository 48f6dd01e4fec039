"""Who hears of which alert: Alertmanager's configuration, by its own tools and by Alertmanager itself."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.testing import require, wait_until
from tests.observability.notified import ALERTMANAGER, alerts_at, every_alert, watched

pytestmark = pytest.mark.rules

RECEIVERS = {"critical": "page", "warning": "ticket", "none": "heartbeat"}
BURNS = {"AvailabilityBudgetBurn", "LatencyBudgetBurn"}


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text("utf-8"))
    return config


def _amtool(*arguments: str | Path) -> str:
    command = [require("amtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _receiver(**labels: str) -> str:
    given = [f"{name}={value}" for name, value in labels.items()]
    return _amtool("config", "routes", "test", f"--config.file={ALERTMANAGER / 'alertmanager.yml'}", *given).strip()


def _names(matcher: str) -> set[str]:
    """The alerts that a matcher names: `alertname=~"A|B"`."""
    found = re.fullmatch(r'alertname=~?"([\w|]+)"', matcher)
    return set(found[1].split("|")) if found else set()


def test_the_configuration_is_valid() -> None:
    """amtool accepts it, its templates included."""
    assert "SUCCESS" in _amtool("check-config", ALERTMANAGER / "alertmanager.yml")


def test_the_examples_are_valid(tmp_path: Path) -> None:
    """With the mark taken away from every example amtool accepts the file, and every receiver has an integration."""
    text = re.sub(r"(?m)^( *)#\| ", r"\1", (ALERTMANAGER / "alertmanager.yml").read_text("utf-8"))
    path = tmp_path / "alertmanager.yml"
    path.write_text(text, "utf-8")
    (tmp_path / "templates").symlink_to(ALERTMANAGER / "templates")
    assert "SUCCESS" in _amtool("check-config", path)
    receivers = yaml.safe_load(text)["receivers"]
    assert {receiver["name"] for receiver in receivers if len(receiver) > 1} == set(RECEIVERS.values())


def test_there_is_no_address_and_no_secret() -> None:
    """As committed nobody is notified, and nothing that a secret could be in is set."""
    config = _config()
    assert config["receivers"] == [{"name": name} for name in RECEIVERS.values()]
    assert set(config["global"]) == {"resolve_timeout"}


@pytest.mark.parametrize("severity", RECEIVERS)
def test_every_alert_is_heard_by_severity(severity: str) -> None:
    """Critical ones page, warnings are tickets, the Watchdog is a heartbeat: all that Prometheus can send."""
    names = {rule["alert"] for rule in every_alert() if rule["labels"]["severity"] == severity}
    assert names
    assert {name: _receiver(alertname=name, severity=severity, service="user") for name in names} == dict.fromkeys(
        names, RECEIVERS[severity]
    )


def test_no_alert_is_lost() -> None:
    """One that nobody thought of, without or with another severity, is a ticket."""
    assert _receiver(alertname="SomethingNew") == "ticket"
    assert _receiver(alertname="SomethingNew", severity="info") == "ticket"
    assert {rule["labels"]["severity"] for rule in every_alert()} == set(RECEIVERS)


def test_pages_are_quick_and_tickets_slow() -> None:
    """A page leaves within seconds and is repeated within hours; a ticket may wait, and is repeated daily. Whatever
    goes together is about one alert of one service.
    """
    root = _config()["route"]
    by_receiver = {route["receiver"]: {**root, **route} for route in root["routes"]}
    timing = {
        name: tuple(route[key] for key in ("group_wait", "group_interval", "repeat_interval"))
        for name, route in by_receiver.items()
    }
    assert timing == {
        "page": ("15s", "2m", "1h"),
        "ticket": ("1m", "10m", "1d"),
        "heartbeat": ("0s", "1m", "2m"),
    }
    for name in ("page", "ticket"):
        assert by_receiver[name]["group_by"] == ["environment", "service", "alertname"]


def test_inhibition_names_alerts_that_exist() -> None:
    """No rule waits for, or silences, an alert that nobody sends any more."""
    known = {rule["alert"] for rule in every_alert()}
    matchers = [one for rule in _config()["inhibit_rules"] for key in rule if key != "equal" for one in rule[key]]
    named = set().union(*map(_names, matchers))
    assert named
    assert named - known == set()


def test_a_cause_never_silences_what_users_feel() -> None:
    """The burn of an error budget is silenced by nothing but a faster burn of the same one."""
    for rule in _config()["inhibit_rules"]:
        assert "environment" in rule["equal"]
        targets = set().union(*map(_names, rule["target_matchers"]))
        if not targets:  # by severity: only tickets
            assert 'severity="warning"' in rule["target_matchers"]
        elif targets & BURNS:
            assert set().union(*map(_names, rule["source_matchers"])) == BURNS
            assert {"alertname", "service"} <= set(rule["equal"])


def _silences(source: dict[str, str], target: dict[str, str]) -> bool:
    """Whether `target` is not sent while `source` fires, as prometheus.io/docs/alerting/latest/configuration says."""
    return any(
        _matches(rule["source_matchers"], source)
        and _matches(rule["target_matchers"], target)
        and not (_matches(rule["target_matchers"], source) and _matches(rule["source_matchers"], target))
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in _config()["inhibit_rules"]
    )


def _matches(matchers: list[str], labels: dict[str, str]) -> bool:
    parsed = [re.fullmatch(r'(\w+)(=~|=)"([^"]*)"', matcher) for matcher in matchers]
    return all(found and _matches_one(found[2], found[3], labels.get(found[1], "")) for found in parsed)


def _matches_one(operator: str, operand: str, value: str) -> bool:
    return bool(re.fullmatch(operand, value)) if operator == "=~" else operand == value


def _alert(text: str) -> dict[str, str]:
    """`Name critical service=user`: an alert's labels."""
    name, severity, *rest = text.split()
    return {"environment": "compose", "alertname": name, "severity": severity, **dict(one.split("=") for one in rest)}


SILENT = (
    (
        "DiskAlmostFull critical service=node instance=a device=sda",
        "DiskAlmostFull warning service=node instance=a device=sda",
    ),
    (
        "DiskAlmostFull warning service=node instance=a device=sda",
        "DiskFillingUp warning service=node instance=a device=sda",
    ),
    (
        "AvailabilityBudgetBurn critical service=user burn_rate=14.4",
        "AvailabilityBudgetBurn critical service=user burn_rate=6",
    ),
    (
        "AvailabilityBudgetBurn critical service=user burn_rate=6",
        "AvailabilityBudgetBurn warning service=user burn_rate=1",
    ),
    ("LatencyBudgetBurn warning service=user burn_rate=3", "LatencyBudgetBurn warning service=user burn_rate=1"),
    ("LatencyBudgetBurn critical service=user slo=latency", "ErrorBudgetLow warning service=user slo=latency"),
    ("AvailabilityBudgetBurn critical service=user slo=availability", "ErrorRateHigh critical service=user"),
    ("TargetDown critical service=user", "TargetDown warning service=user instance=a"),
    ("TargetDown critical service=user", "DatabasePoolExhausted warning service=user"),
    ("TargetMissing critical service=gateway", "ProbeFailing critical service=gateway instance=a"),
    ("TargetDown critical service=catalogue", "UpstreamBreakerOpen warning service=gateway upstream=catalogue"),
    ("TargetMissing critical service=links", "GatewayShedding warning service=gateway upstream=links"),
    ("PostgresDown critical service=postgres", "DatabaseUnreachable critical service=user"),
    ("PostgresDown critical service=postgres", "RouteFeedStale warning service=gateway source=database"),
    ("DatabaseUnreachable warning service=catalogue", "CatalogueFallbackActive warning service=catalogue"),
    ("RedisDown warning service=redis", "CacheUnavailable warning service=user"),
    ("EventsFailing warning service=gateway", "OutboxLagging warning service=gateway"),
)
SENT = (
    (
        "DiskAlmostFull critical service=node instance=a device=sda",
        "DiskAlmostFull warning service=node instance=a device=sdb",
    ),
    (
        "AvailabilityBudgetBurn critical service=user burn_rate=14.4",
        "AvailabilityBudgetBurn critical service=user burn_rate=14.4",
    ),
    (
        "AvailabilityBudgetBurn critical service=user burn_rate=6",
        "AvailabilityBudgetBurn critical service=user burn_rate=14.4",
    ),
    (
        "AvailabilityBudgetBurn critical service=user burn_rate=14.4",
        "AvailabilityBudgetBurn critical service=gateway burn_rate=6",
    ),
    (
        "AvailabilityBudgetBurn critical service=user burn_rate=14.4",
        "LatencyBudgetBurn critical service=user burn_rate=6",
    ),
    ("LatencyBudgetBurn critical service=user slo=latency", "ErrorBudgetLow warning service=user slo=availability"),
    ("TargetDown warning service=user instance=a", "DatabasePoolExhausted warning service=user"),
    ("TargetDown critical service=user", "AvailabilityBudgetBurn critical service=user burn_rate=14.4"),
    ("TargetDown critical service=user", "UpstreamBreakerOpen warning service=gateway upstream=catalogue"),
    ("PostgresDown critical service=postgres", "AvailabilityBudgetBurn critical service=user burn_rate=14.4"),
    ("PostgresDown critical service=postgres", "RouteFeedStale warning service=gateway source=disk"),
    ("PostgresDown critical service=postgres", "RedisDown warning service=redis"),
    ("DatabaseUnreachable critical service=user", "OutboxLagging warning service=gateway"),
)


@pytest.mark.parametrize(("source", "target"), SILENT)
def test_what_follows_is_silent(source: str, target: str) -> None:
    """What is known already is not said in other words."""
    assert _silences(_alert(source), _alert(target))


@pytest.mark.parametrize(("source", "target"), SENT)
def test_what_does_not_follow_is_sent(source: str, target: str) -> None:
    """Another service, another device, what shoppers feel, and an alert itself: none is silenced."""
    assert not _silences(_alert(source), _alert(target))


def test_another_environment_is_sent() -> None:
    """One Alertmanager for production and staging mixes nothing up."""
    source, target = (_alert(text) for text in SILENT[11])
    assert not _silences(source, {**target, "environment": "staging"})


def test_alerts_are_delivered(tmp_path: Path) -> None:
    """From Prometheus through Alertmanager: the page arrives in its group, with all that a person needs; what follows
    from it does not arrive while it lasts, and does when it is over; the end of each is told; the Watchdog goes on.
    """
    with watched(tmp_path, ["PostgresDown", "DatabaseUnreachable", "Watchdog"]) as (world, url):
        world.switches["PostgresDown"] = True
        fired = wait_until(lambda: world.notified("page", "PostgresDown"), timeout_s=20, what="the page")[0]
        group = {"environment": "compose", "service": "postgres", "alertname": "PostgresDown"}
        assert (fired["status"], fired["receiver"], fired["groupLabels"]) == ("firing", "page", group)
        assert not {"grafana", "runbook"} & set(fired["alerts"][0]["labels"])
        post = wait_until(lambda: world.posts("page"), timeout_s=20, what="the post")[0]["attachments"][0]
        assert post["title"] == "[FIRING:1] critical postgres: PostgresDown"
        assert post["title_link"] == "http://localhost:3000/d/storefront-postgres"
        assert "PostgreSQL does not answer\n" in post["text"]
        assert "What to do: http://localhost:3000/d/storefront-runbook#postgresdown\n" in post["text"]
        assert "<no value>" not in post["text"]

        world.switches["DatabaseUnreachable"] = True
        wait_until(
            lambda: alerts_at(url).get("DatabaseUnreachable", {}).get("status", {}).get("inhibitedBy"),
            timeout_s=20,
            what="the inhibited alert is known",
        )
        beats = len(world.notified("heartbeat", "Watchdog"))
        wait_until(lambda: len(world.notified("heartbeat", "Watchdog")) > beats + 1, timeout_s=20, what="the Watchdog")
        assert world.notified("page", "DatabaseUnreachable") == world.notified("ticket", "DatabaseUnreachable") == []

        world.switches["PostgresDown"] = False
        wait_until(
            lambda: "resolved" in [sent["status"] for sent in world.notified("page", "PostgresDown")],
            timeout_s=20,
            what="the end is told",
        )
        later = wait_until(lambda: world.notified("page", "DatabaseUnreachable"), timeout_s=20, what="what followed")
        assert (later[0]["status"], later[0]["groupLabels"]["service"]) == ("firing", "user")
