"""Promtail's and Alloy's configurations in one form: how targets get labels, and what stages their lines go through."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.observability.alloy import Block, Reference, parse
from tests.observability.stages import Stage

OBSERVABILITY = Path(__file__).parents[2] / "observability"
FILES = {
    "compose": (OBSERVABILITY / "promtail" / "promtail.yml", OBSERVABILITY / "alloy" / "config.alloy"),
    "kubernetes": (OBSERVABILITY / "promtail" / "kubernetes.yml", OBSERVABILITY / "alloy" / "kubernetes.alloy"),
}
_RULE = {"regex": "(.*)", "separator": ";", "replacement": "$1", "action": "replace"}


@dataclass(frozen=True)
class Collector:
    """What is read and what becomes of it: the labels of files that are named, rules for discovered ones, stages, and
    where lines go.
    """

    static: Mapping[str, str]
    rules: list[dict[str, Any]]
    stages: list[Stage]
    push_url: str

    def target(self, discovered: Mapping[str, str]) -> dict[str, str] | None:
        """The labels of a target as its lines get them, and `__path__`; None for one that is not read.

        After prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config: replace and keep.
        """
        labels = {**self.static, **discovered}
        for given in self.rules:
            rule = {**_RULE, **given}
            value = rule["separator"].join(labels.get(name, "") for name in rule.get("source_labels", []))
            found = re.fullmatch(rule["regex"], value)
            if rule["action"] == "keep":
                if not found:
                    return None
            elif rule["action"] != "replace":
                raise ValueError(f"action that is not modelled: {rule['action']}")
            elif found:
                labels[rule["target_label"]] = found.expand(re.sub(r"\$(\d)", r"\\\1", rule["replacement"]))
        return {name: value for name, value in labels.items() if not name.startswith("__") or name == "__path__"}


def promtail(path: Path) -> Collector:
    """The one scrape configuration of a Promtail file."""
    config = yaml.safe_load(path.read_text("utf-8"))
    (scrape,), (client,) = config["scrape_configs"], config["clients"]
    static = scrape.get("static_configs", [{"labels": {}}])[0]["labels"]
    return Collector(static, scrape.get("relabel_configs", []), _of_promtail(scrape["pipeline_stages"]), client["url"])


def _of_promtail(stages: list[dict[str, Any]]) -> list[Stage]:
    found: list[Stage] = []
    for stage in stages:
        ((name, config),) = stage.items()
        if name == "match" and "stages" in config:
            config = {**config, "stages": _of_promtail(config["stages"])}
        found.append((name, config))
    return found


def alloy(path: Path) -> Collector:
    """The one chain of components of an Alloy file, which has to hang together."""
    blocks = parse(path.read_text("utf-8"))
    match, source, process, write = (
        _only(blocks, name) for name in ("local.file_match", "loki.source.file", "loki.process", "loki.write")
    )
    _refers(source.attributes["targets"], f"local.file_match.{match.label}.targets")
    _refers(source.attributes["forward_to"][0], f"loki.process.{process.label}.receiver")
    _refers(process.attributes["forward_to"][0], f"loki.write.{write.label}.receiver")
    static, rules = {}, []
    if isinstance(match.attributes["path_targets"], Reference):
        relabel, discovery = _only(blocks, "discovery.relabel"), _only(blocks, "discovery.kubernetes")
        _refers(match.attributes["path_targets"], f"discovery.relabel.{relabel.label}.output")
        _refers(relabel.attributes["targets"], f"discovery.kubernetes.{discovery.label}.targets")
        rules = [rule.attributes for rule in relabel.blocks]
    else:
        (static,) = match.attributes["path_targets"]
    return Collector(static, rules, _of_alloy(process.blocks), _only(write.blocks, "endpoint").attributes["url"])


def _of_alloy(blocks: list[Block]) -> list[Stage]:
    found: list[Stage] = []
    for block in blocks:
        name, config = block.name.removeprefix("stage."), dict(block.attributes)
        if name == "label_keep":
            found.append(("labelallow", config["values"]))
        elif name in ("labels", "structured_metadata"):
            found.append((name, config["values"]))
        elif block.blocks:
            found.append((name, {**config, "stages": _of_alloy(block.blocks)}))
        else:
            found.append((name, config))
    return found


def _only(blocks: list[Block], name: str) -> Block:
    (found,) = [block for block in blocks if block.name == name]
    return found


def _refers(value: Any, name: str) -> None:
    if value != Reference(name):
        raise ValueError(f"{value} is not {name}")
