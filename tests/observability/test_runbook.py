"""The runbook: a section for each alert, and nothing in it that there is not."""

import importlib.util
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from chassis.testing import require
from tests.observability.names import metrics_in, ours
from tests.observability.queries import OBSERVABILITY, ROOT, every_expression, of_document
from tests.observability.runbook import PARTS, PATH, Section, alerts, introduction, sections, words_of

pytestmark = pytest.mark.rules

PROGRAMS = {"apt-get", "curl", "df", "docker", "du", "make", "openssl"}
LOGGED = ("chassis/src", *(f"services/{name}/src" for name in ("catalogue", "gateway", "links", "user")))


def _of_alerts() -> list[Section]:
    return [section for section in sections() if section.of_alert]


def test_each_alert_has_its_section() -> None:
    """Whoever is woken finds the alert's name as a heading; no section is left of an alert that is gone."""
    assert sorted(section.title for section in _of_alerts()) == sorted({rule["alert"] for rule in alerts()})


def test_each_section_has_the_four_parts_in_order() -> None:
    """Every section says what it means, what it does to users, how to find out, and what to do."""
    for section in _of_alerts():
        assert tuple(section.parts) == PARTS, section.title
        assert all(section.parts.values()), section.title
        assert "```" in section.parts["Diagnosis"], section.title


def test_each_alert_leads_to_a_dashboard() -> None:
    """The dashboard that an alert links exists, for each service that it may be about."""
    files = (OBSERVABILITY / "grafana").rglob("dashboards/**/*.json")
    uids = {json.loads(path.read_text("utf-8"))["uid"] for path in files}
    for rule in alerts():
        where = re.search(r"/d/([^?]+)", rule["annotations"]["dashboard_url"])
        assert where is not None, rule["alert"]
        for service in ("gateway", "catalogue", "user", "links"):
            assert re.sub(r"\{\{ \$labels\.\w+ \}\}", service, where[1]) in uids, rule["alert"]


def test_links_lead_somewhere() -> None:
    """A link leads to a section that exists, here or in another file."""
    titles = {"": {section.title for section in sections()}}
    for target in re.findall(r"\]\(([^)]+)\)", PATH.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        if path and path not in titles:
            titles[path] = set(re.findall(r"^#+ (.+)$", (PATH.parent / path).read_text("utf-8"), re.MULTILINE))
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles[path]}, target


def test_every_metric_exists() -> None:
    """What runbook and alerts ask for is in the services' code, is recorded, or is what an exporter gives."""
    rules = [found for found in every_expression() if found.where.startswith(("alerts/", "rules/"))]
    asked = [found for found in [*rules, *of_document(PATH)] if found.language == "promql"]
    unknown = {name: found.where for found, names in metrics_in(asked) for name in names if not ours(name)}
    assert unknown == {}


def test_every_log_message_exists() -> None:
    """What the runbook looks for in our services' logs is what they, or gunicorn, write."""
    spec = importlib.util.find_spec("gunicorn")
    assert spec is not None
    assert spec.origin is not None
    places = [*(ROOT / place for place in LOGGED), Path(spec.origin).parent]
    code = "\n".join(path.read_text("utf-8") for place in places for path in place.rglob("*.py"))
    text = PATH.read_text("utf-8")
    sought = re.findall(r'^\{service=~?"(?:gateway|catalogue|user)[^}]*\} \|= "([^"]+)"', text, re.MULTILINE)
    sought += [quoted.removesuffix("…").strip() for quoted in re.findall(r"`([^`]+…)`", text)]
    assert len(sought) > 10
    assert [message for message in sought if message not in code] == []


def test_shell_blocks_are_shell() -> None:
    """Every block can be pasted, and both installations define the same words."""
    compose, run, *_ = introduction().shell
    assert words_of(compose) == words_of(run)
    for section in sections():
        for block in section.shell:
            done = subprocess.run([require("bash"), "-n"], input=block, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{section.title}: {done.stderr}"


def test_every_command_exists() -> None:
    """Commands are the runbook's own words or programs that everybody has, and verbs of `make` are in the Makefile."""
    known = PROGRAMS | words_of(introduction().shell[0])
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for section in _of_alerts():
        for block in section.shell:
            for line in block.splitlines():
                assert line.split()[0] in known, f"{section.title}: {line}"
        for verb in re.findall(r"\bmake ([a-z-]+)", section.text):
            assert verb in verbs or "`make " + verb not in section.text, f"{section.title}: make {verb}"


@cache
def _compose() -> dict[str, object]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    return dict(services)


def test_every_service_exists() -> None:
    """Services that commands name are in docker-compose.yml, and so are the ports that they are asked at."""
    ports = {"gateway": "8000", "catalogue": "5000", "user": "5001"}
    for section in sections()[1:]:
        for command in section.commands():
            named = re.findall(r"^(?:again|logs) ([\w-]+)", command) + re.findall(r"--scale ([\w-]+)=", command)
            named += re.findall(r"^docker compose (?:--profile \w+ )?exec -T ([\w-]+)", command)
            if found := re.match(
                r"docker compose (?:--profile \w+ )?(?:ps(?: -a)?|up -d|stop|restart)((?: [\w-]+)+)$", command
            ):
                named += [word for word in found[1].split() if not word.startswith("-")]
            assert set(named) <= set(_compose()), f"{section.title}: {command}"
            for host, port in re.findall(r"^get '?(\w+):(\d+)/", command):
                assert ports[host] == port, f"{section.title}: {command}"


def test_every_variable_and_file_exists() -> None:
    """Variables are in .env.example or docker-compose.yml, paths are in the tree."""
    settings = "".join((ROOT / name).read_text("utf-8") for name in (".env.example", "docker-compose.yml"))
    for section in sections():
        for name in section.inline:
            if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", name):
                assert re.search(rf"\b{name}\b", settings), f"{section.title}: {name}"
            elif re.fullmatch(r"[\w.-]+(/[\w.-]+)*/[\w-]+\.\w+", name):
                assert (ROOT / name).is_file(), f"{section.title}: {name}"
