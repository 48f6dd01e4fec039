"""How lines get into Loki: Promtail and Alloy make the same of the same recorded lines, and Loki takes what they send.

There is no Promtail, Alloy or Loki in the package indexes that a run of these tests can use, so the stages are
evaluated by tests/observability/stages.py. Where the programs or their images are at hand, they check the files
themselves.
"""

import json
import re
import shutil
import subprocess
from dataclasses import asdict
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.alloy import Reference, parse
from tests.observability.collected import (
    NOW_NS,
    OURS,
    collectors,
    discovered,
    of_compose,
    of_kubernetes,
    written,
)
from tests.observability.gotemplate import TemplateError, execute
from tests.observability.pipelines import FILES, OBSERVABILITY
from tests.observability.queries import ROOT
from tests.observability.stages import Entry, Pipeline, Stage, rfc3339_ns

pytestmark = pytest.mark.rules

LEVELS = {"debug", "info", "warning", "error", "critical"}
LABELS = {"compose": {"service", "app", "container"}, "kubernetes": {"service", "app", "container", "namespace", "pod"}}
METADATA = {"request_id", "trace_id", "duration"}
PLACES = ("compose", "kubernetes")
EITHER = pytest.mark.parametrize("name", ["promtail", "alloy"])
EVERYWHERE = pytest.mark.parametrize("place", PLACES)


@cache
def _sent(place: str, name: str, *files: str) -> list[Entry | None]:
    collect = of_compose if place == "compose" else of_kubernetes
    return collect(collectors(place)[name], written(*files or OURS))


def _plain(stages: list[Stage]) -> list[Any]:
    """Stages without the white space that templates trim."""
    return json.loads(re.sub(r"(?:\\n| )*(\{\{-.*?-?\}\})(?:\\n| )*", r"\1", json.dumps(stages)))  # type: ignore[no-any-return]


@EVERYWHERE
def test_both_have_the_same_stages(place: str) -> None:
    """Alloy's stages are Promtail's, one by one, and both push to the same Loki."""
    promtail, alloy = collectors(place).values()
    assert _plain(promtail.stages) == _plain(alloy.stages)
    assert promtail.push_url == alloy.push_url == "http://loki:3100/loki/api/v1/push"
    assert promtail.static == alloy.static


@EVERYWHERE
def test_both_send_the_same(place: str) -> None:
    """Of every recorded line: labels, structured metadata, text and time."""
    promtail, alloy = (_sent(place, name) for name in ("promtail", "alloy"))
    assert [one and asdict(one) for one in promtail] == [one and asdict(one) for one in alloy]


@EITHER
@EVERYWHERE
def test_labels_are_these_and_no_others(place: str, name: str) -> None:
    """A stream is a container and one of five levels, or none. So there are few, whatever is written."""
    sent = [entry for entry in _sent(place, name) if entry]
    for entry in sent:
        assert set(entry.labels) - {"level"} == LABELS[place]
        assert entry.labels.get("level", "info") in LEVELS
        assert set(entry.metadata) <= METADATA
    containers = {entry.labels["container"] for entry in sent}
    assert len({tuple(sorted(entry.labels.items())) for entry in sent}) <= len(containers) * (len(LEVELS) + 1)


@EITHER
def test_no_line_is_lost_or_changed(name: str) -> None:
    """JSON, text, half of a JSON object, numbers, other languages: as written. An empty line is a blank."""
    lines = list(written(*OURS))
    assert [entry and entry.line for entry in _sent("compose", name)] == [line.text or " " for line in lines]


def test_both_look_for_pods_in_the_same_place() -> None:
    """In the storefront's namespace by its name, on their own node: neither can run in that namespace itself."""
    promtail, alloy = FILES["kubernetes"]
    (scrape,) = yaml.safe_load(promtail.read_text("utf-8"))["scrape_configs"]
    (found,) = scrape["kubernetes_sd_configs"]
    (daemon,) = [
        each
        for each in yaml.safe_load_all((ROOT / "k8s/components/alloy/alloy.yaml").read_text("utf-8"))
        if each["kind"] == "DaemonSet"
    ]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each.get("value") for each in container["env"]}
    (discovery,) = [each for each in parse(alloy.read_text("utf-8")) if each.name == "discovery.kubernetes"]
    inside = {each.name: each.attributes for each in discovery.blocks}
    assert inside["namespaces"] == {"names": [Reference('sys.env("STOREFRONT_NAMESPACE")')]}
    assert found["namespaces"] == {"names": [given["STOREFRONT_NAMESPACE"]]}
    assert found["role"] == discovery.attributes["role"] == inside["selectors"]["role"] == "pod"
    node = [rule for rule in scrape["relabel_configs"] if rule.get("target_label") == "__host__"]
    assert node == [{"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "__host__"}]
    assert 'sys.env("HOSTNAME")' in alloy.read_text("utf-8")


@EITHER
def test_what_is_not_of_the_storefront_is_not_sent(name: str) -> None:
    """Containers without our tag, whatever they write, and pods without the label `app`, are left alone."""
    assert _sent("compose", name, "foreign.log") == [None, None]
    assert collectors("kubernetes")[name].target(discovered(None)) is None


@EITHER
def test_the_files_of_a_pod_are_found(name: str) -> None:
    """A container's files are where the kubelet puts them; its labels are the pod's."""
    target = collectors("kubernetes")[name].target(discovered("user"))
    assert target == {
        "__path__": "/var/log/pods/*0b1c/user/*.log",
        "job": "pods",
        "app": "user",
        "service": "user",
        "namespace": "storefront",
        "pod": "user-6c9f7d5b8-x2x4q",
        "container": "user",
    }


@EITHER
@EVERYWHERE
def test_a_request_has_its_ids_and_its_duration(place: str, name: str) -> None:
    """They are metadata of the line, as our JSON has them. A line outside a request has none."""
    requests = 0
    for entry in _sent(place, name):
        line = _object(entry.line) if entry else None
        if entry and line and "service" in line:
            wanted = {key: line[key] for key in ("request_id", "trace_id") if line[key] is not None}
            if "duration_ms" in line:
                requests += 1
                wanted["duration"] = entry.metadata["duration"]
                assert float(wanted["duration"]) == line["duration_ms"]
            assert entry.metadata == wanted
    assert requests > 20


@EITHER
@EVERYWHERE
def test_time_is_our_own(place: str, name: str) -> None:
    """A line of ours has the time when it was written; another has the one that the container runtime gave it."""
    lines = [line for line in written(*OURS) if place == "compose" or line.ends]
    sent = [entry for entry in _sent(place, name) if entry]
    ours = 0
    for line, entry in zip(lines, sent, strict=True):
        own = (_object(entry.line) or {}).get("timestamp", "")
        ours += bool(rfc3339_ns(own))
        assert entry.timestamp_ns == (rfc3339_ns(own) or rfc3339_ns(line.time)) != NOW_NS
    assert ours > 100


@EITHER
@pytest.mark.parametrize(
    ("begin", "level"),
    [
        ('{"timestamp":"2026-11-22T', "info"),
        ("ERROR Database error: could not connect", "error"),
        ("INFO Using database as data source", "info"),
        ("WARNING: This is a development server.", "warning"),
        (" * Serving Flask app", None),
        ('[2025-10-07 10:15:23] "GET', None),
        ('{"level":30', None),
        ('{"level":"verbose"', None),
        ('{"timestamp":"2026-11-22T04:00:00.000+00:00","level":"ERROR","mess', "error"),
        ("{", None),
        ("null", None),
        (" ", None),
        ("xxxxxxxxx", None),
        ("über", None),
        ("level=info ts=2026-11-22T04:00:00.123456789Z", "info"),
        ("level=warn ts=", "warning"),
        ("ts=2026-11-22T04:00:02.123456789Z level=error", "error"),
        ('{"level":"info","logger":"http.server"', "info"),
        ("[2026-11-22 04:00:04,123] INFO [Kafka", "info"),
        ("[2026-11-22 04:00:05,123] FATAL", "critical"),
        ("time=2026-11-22T04:00:06.123Z level=WARN", "warning"),
    ],
)
def test_the_level_is_told_if_there_is_one(name: str, begin: str, level: str | None) -> None:
    """Each program's way to say it is one of five words; what does not say it has none."""
    found = next(entry for entry in _sent("compose", name) if entry and _begins(entry.line, begin))
    assert found.labels.get("level") == level


@EITHER
@pytest.mark.parametrize(
    ("service", "text", "level"),
    [
        ("postgres", "LOG:  starting PostgreSQL", "info"),
        ("postgres", "FATAL:  terminating connection", "critical"),
        ("redis", " # WARNING Memory overcommit", "warning"),
        ("redis", " * Ready to accept connections", "info"),
        ("catalogue", "Database error: OperationalError", "error"),
        ("catalogue", "catalogue.sources - ERROR - Database error", "error"),
        ("prometheus", "level=warn component", "warning"),
        ("redis-exporter", "level=error msg=", "error"),
        ("catalogue", "It failed: level=debug", "error"),
    ],
)
def test_the_level_of_real_lines(name: str, service: str, text: str, level: str) -> None:
    """The same of lines that a run of the storefront wrote; a level within a message is not taken for the line's."""
    found = [
        entry.labels.get("level")
        for entry in _sent("compose", name)
        if entry and entry.labels["service"] == service and text in entry.line
    ]
    assert found
    assert set(found) == {level}


@EITHER
def test_a_split_line_is_whole_in_kubernetes(name: str) -> None:
    """containerd writes a long line in pieces; it arrives as one, and is understood. (Docker's pieces stay pieces.)"""
    whole = [entry for entry in _sent("kubernetes", name, "odd.log") if entry and "A long one" in entry.line]
    assert [(len(entry.line) > 17_000, entry.labels["level"]) for entry in whole] == [(True, "warning")]
    assert whole[0].metadata["request_id"] == "shopper-7.a_b"
    pieces = [entry for entry in _sent("compose", name, "odd.log") if entry and "xxxxxxxx" in entry.line]
    assert [entry.labels.get("level") for entry in pieces] == ["warning", None]


@EITHER
def test_ids_never_make_streams(name: str) -> None:
    """A thousand requests, each with ids, a path and a user's own header of its own, are one stream."""
    line = next(line for line in written("odd.log") if "shopper-7.a_b" in line.text)
    raw = [line.raw.replace("shopper-7.a_b", f"id-{n}").replace("4bf92f3577b3", f"{n:012x}") for n in range(1000)]
    collector = collectors("compose")[name]
    pipeline = Pipeline(collector.stages)
    sent = [pipeline.run(Entry(one, dict(collector.static), NOW_NS)) for one in raw]
    assert len({str(entry and entry.labels) for entry in sent}) == 1
    assert len({entry.metadata["request_id"] for entry in sent if entry}) == 1000


@EVERYWHERE
def test_expressions_are_of_go(place: str) -> None:
    """Regular expressions have nothing that Go's do not know, and templates call what both programs have."""
    text = json.dumps(collectors(place)["promtail"].stages)
    assert not re.search(r"\(\?[=!<]", text.replace("(?P<", ""))
    assert not re.search(r"\\\\[1-9]|[*+?}]\+", text)
    own = {"ToLower", "TrimSuffix"}  # besides what is in Go itself
    called = set(re.findall(r"\b([A-Z][A-Za-z]+) [.$(]", " ".join(re.findall(r"\{\{.*?\}\}", text))))
    assert called <= own


def test_stages_are_modelled_as_documented() -> None:
    """Null is no label; a failing template changes nothing, an empty one removes; what is no time is skipped;
    metadata takes its label away.
    """
    entry = Pipeline(
        [
            ("json", {"expressions": {"a": None, "b": "x.y", "none": None, "gone": None, "at": None}}),
            ("template", {"source": "missing", "template": "{{ ToLower .Value }}"}),
            ("template", {"source": "gone", "template": '{{ if eq .Value "no" }}yes{{ end }}'}),
            ("labels", {"a": None, "b": None, "none": None, "gone": None, "missing": None}),
            ("timestamp", {"source": "at", "format": "RFC3339Nano", "action_on_failure": "skip"}),
            ("structured_metadata", {"c": "b"}),
        ]
    ).run(Entry('{"a":1.50,"x":{"y":true},"none":null,"gone":"x","at":"now"}', {"job": "x"}, NOW_NS))
    assert entry
    assert (entry.labels, entry.metadata) == ({"job": "x", "a": "1.5"}, {"c": "true"})
    assert entry.timestamp_ns == NOW_NS


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.a}}", "A"),
        ("x {{- .a -}} y", "xAy"),
        ("{{ ToLower .a | ToUpper }}", "A"),
        ("{{ .missing }}", "<no value>"),
        ('{{ or (TrimSuffix .a "A") " " }}', " "),
        ('{{ $x := .a }}{{ if eq $x "B" "A" }}1{{ else if .a }}2{{ else }}3{{ end }}', "1"),
        ('{{ if eq .a "B" }}1{{ else if not .a }}2{{ else }}{{ if .a }}3{{ end }}{{ end }}', "3"),
    ],
)
def test_templates_are_gos(template: str, text: str) -> None:
    """What Go prints for these; what it would refuse is refused."""
    assert execute(template, {"a": "A"}) == text
    with pytest.raises(TemplateError):
        execute("{{ ToLower .missing }}", {})


def test_lines_of_a_second_stay_in_order() -> None:
    """Times of one container never go back, so Loki shows lines in the order in which they were written."""
    sent = [
        entry for entry in _sent("compose", "alloy", "compose.log") if entry and entry.labels["service"] == "postgres"
    ]
    assert all(before.timestamp_ns <= after.timestamp_ns for before, after in pairwise(sent))


def test_loki_takes_what_is_sent() -> None:
    """Ids need structured metadata, that needs schema v13; retention needs a compactor that deletes; there is room for
    our labels and no more; nothing is told to anybody.
    """
    config = yaml.safe_load((OBSERVABILITY / "loki" / "loki.yml").read_text("utf-8"))
    (schema,) = config["schema_config"]["configs"]
    limits, compactor = config["limits_config"], config["compactor"]
    assert (schema["store"], schema["schema"], schema["index"]["period"]) == ("tsdb", "v13", "24h")
    assert limits["allow_structured_metadata"]
    assert limits["discover_service_name"] == []
    assert (compactor["retention_enabled"], compactor["delete_request_store"]) == (True, schema["object_store"])
    assert limits["retention_period"] == limits["reject_old_samples_max_age"] == "168h"
    assert len(LABELS["kubernetes"]) + 1 <= limits["max_label_names_per_series"] < 10
    assert config["analytics"] == {"reporting_enabled": False}
    assert config["server"]["http_listen_port"] == 3100


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    return services


def test_compose_keeps_what_has_to_last() -> None:
    """Loki's data and the collectors' positions are on volumes, and Docker's files are where the collectors look."""
    services = _services()
    mounts = {
        name: {
            mount.split(":")[-2] if mount.endswith(":ro") else mount.split(":")[-1]
            for mount in services[name]["volumes"]
        }
        for name in ("loki", "promtail", "alloy")
    }
    loki = yaml.safe_load((OBSERVABILITY / "loki" / "loki.yml").read_text("utf-8"))
    positions = yaml.safe_load((OBSERVABILITY / "promtail" / "promtail.yml").read_text("utf-8"))["positions"][
        "filename"
    ]
    assert loki["common"]["path_prefix"] in mounts["loki"]
    assert str(Path(positions).parent) in mounts["promtail"]
    assert "--storage.path=/data" in services["alloy"]["command"]
    assert "/data" in mounts["alloy"]
    read = collectors("compose")["promtail"].static["__path__"].split("/*")[0]
    assert read in mounts["promtail"] & mounts["alloy"]


def _commands() -> list[tuple[str, list[str | Path]]]:
    promtails, alloys = zip(*FILES.values(), strict=True)
    return [
        ("loki", ["-verify-config", f"-config.file={OBSERVABILITY / 'loki' / 'loki.yml'}"]),
        *(("promtail", ["-check-syntax", f"-config.file={path}"]) for path in promtails),
        *(("alloy", [verb, path]) for path in alloys for verb in ("validate", "fmt")),
    ]


def _program(name: str) -> list[str]:
    """How to run it: from the PATH, else from its image if Docker has that already. The paths are the same in both."""
    if path := shutil.which(name):
        return [path]
    image = _services()[name]["image"]
    if shutil.which("docker"):
        known = subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=60, check=False)
        if known.returncode == 0:
            return ["docker", "run", "--rm", "--network=none", f"--volume={OBSERVABILITY}:{OBSERVABILITY}:ro", image]
    pytest.skip(f"`{name}` is not installed, Docker has no {image}, and no package index that these tests use has it")


@pytest.mark.parametrize(("program", "arguments"), _commands())
def test_the_program_itself_accepts_its_file(program: str, arguments: list[str | Path]) -> None:
    """Where Loki, Promtail or Alloy is at hand. In CI as well it is skipped without: neither Debian nor PyPI nor npm
    has them.
    """
    command = [*_program(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "fmt" in arguments:
        assert done.stdout == Path(arguments[-1]).read_text("utf-8")


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _begins(line: str, begin: str) -> bool:
    return line == begin if begin in ("{", "null", " ") else line.startswith(begin)
