"""Figures in documents, made from the newest results in loadtest/results.

Those of the evidence and of the bench are in the README, those of the sizing in docs/kubernetes.md.

Only results that have all parts; a quick one is a look and never gets there.

`python scripts/figures.py` writes them, `--check` says whether they are out of date and exits 1 if so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as a script it sees its own folder only

from loadtest.evidence.numbers import demand, figure, interval, number  # noqa: E402

RESULTS = ROOT / "loadtest" / "results"
README = ROOT / "README.md"
KUBERNETES = ROOT / "docs" / "kubernetes.md"
PARTS = ("rates", "walk", "memory", "resilience")

SENTENCES = {
    "products": "the products answer (12 products)",
    "users-redis": "a page of users from Redis",
    "users-pooled": "a page of users from pooled PostgreSQL",
    "redirect": "following a short link that Redis knows",
    "redirect-unpooled": "the same, connecting and writing per click",
    "edge": "the gateway, nothing cached",
    "edge-hit": "the products from the gateway's cache",
    "resolve": "resolving a route",
    "gateway-products": "the products through the gateway",
    "gateway-users": "the page of users through the gateway",
    "bare-wsgi": "a bare WSGI function on the same server",
    "bare-asgi": "a bare ASGI function on the same server",
    "users-unpooled": "the same page, connecting per request",
    "users-fastapi": "its FastAPI + asyncpg + redis.asyncio twin",
    "flask-proxy": "a Flask + urllib3 proxy",
    "aiohttp-proxy": "a bare ASGI + aiohttp proxy",
    "nginx-proxy": "nginx, `proxy_pass`",
    "nginx-cache": "nginx, `proxy_cache`",
}


def is_bench(result: Mapping[str, Any]) -> bool:
    """Whether `make bench` wrote it, with all parts."""
    return all(part in result for part in PARTS)


def is_evidence(result: Mapping[str, Any]) -> bool:
    """Whether `make evidence` wrote it, with all parts, and not quickly."""
    return "parts" in result and not result["quick"] and bool(result.get("complete"))


def is_sizing(result: Mapping[str, Any]) -> bool:
    """Whether `make sizing` wrote it, with all pods, and not quickly."""
    return result.get("kind") == "sizing" and not result["quick"] and bool(result["complete"])


def newest(wanted: Callable[[Mapping[str, Any]], bool], directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """The wanted result that was taken last, None if there is none."""
    found = []
    for path in directory.glob("*.json"):
        result = json.loads(path.read_text("utf-8"))
        if wanted(result):
            found.append((result["taken_at"], path, result))
    if not found:
        return None
    _, path, result = max(found, key=lambda each: each[0])
    return path, result


def render_evidence(path: Path, result: Mapping[str, Any]) -> str:
    """The claims with their verdicts: those that make headlines, and all that do not hold or that nobody can judge."""
    machine, report = result["machine"], path.with_suffix(".html")
    links = f"[all of it]({_link(path)})"
    if report.exists():
        links = f"[the report]({_link(report)}), a page for a browser, and {links}"
    conditions = (
        f"`make evidence`, {result['taken_at'][:10]}, commit `{result['commit']}`: {machine['cores']} cores "
        f"({machine['processor']}), Python {machine['python']}; {links}; "
        "[how it is measured and when a claim holds](loadtest/README.md#evidence)."
    )
    lines = [conditions, "", "| claim | wanted | median | interval | |", "|---|---:|---:|---:|---|"]
    others = 0
    for claim in (claim for part in result["parts"] for claim in part["claims"]):
        if claim["verdict"] == "holds" and not claim["headline"]:
            others += 1
            continue
        wanted, unit, verdict = claim["wanted"], claim["unit"], claim["verdict"]
        cells = (
            claim["sentence"],
            demand(wanted, unit, claim["better"]),
            "" if claim["median"] is None else figure(claim["median"], unit, wanted=wanted),
            "" if claim["interval"] is None else interval(claim["interval"], unit, wanted=wanted),
        )
        mark = verdict if verdict == "holds" else f"**{verdict}**"
        lines.append(f"| {' | '.join(map(_cell, cells))} | {mark} |")
    if others:
        lines += ["", f"{others} more claims hold; the report has them."]
    return "\n".join(lines)


def render_bench(path: Path, result: Mapping[str, Any]) -> str:
    """Ratios first, because they travel to other machines, then the limits."""
    machine, settings = result["machine"], result["settings"]
    conditions = (
        f"`make bench`, {result['taken_at'][:10]}, commit `{result['commit']}`: {machine['cores']} cores "
        f"({machine['processor']}), Python {machine['python']}; one worker on one core, wrk on another, "
        f"{settings['connections']} keep-alive connections; metrics, request ids and access log on everywhere "
        f"but in the bare functions; {settings['rounds']} interleaved rounds of {settings['seconds']:g} s, medians. "
        f"[All of it]({_link(path)}); [how it is measured](loadtest/README.md)."
    )
    lines = [conditions, "", "| | against | ratio | (from, to) | wanted | |", "|---|---|---:|---:|---:|---|"]
    for ratio in result["ratios"]:
        wanted = "" if ratio["wanted"] is None else f"≥ {ratio['wanted']:g}"
        lines.append(
            f"| {_name(ratio['subject'])} | {_name(ratio['reference'])} | {ratio['ratio']:.2f} "
            f"| {ratio['lowest']:.2f}, {ratio['highest']:.2f} | {wanted} | {_verdict(ratio['holds'])} |"
        )
    lines += ["", "| | value | at most | |", "|---|---:|---:|---|"]
    for limit in result["limits"]:
        at_most = "" if limit["at_most"] is None else _value(limit["at_most"], limit["unit"])
        lines.append(
            f"| {limit['name']} | {_value(limit['value'], limit['unit'])} | {at_most} | {_verdict(limit['holds'])} |"
        )
    return "\n".join(lines)


def render_sizing(path: Path, result: Mapping[str, Any]) -> str:
    """What a pod of each service does, and what it has of its limits then."""
    machine, in_time = result["machine"], result["in_time"]
    conditions = (
        f"`make sizing`, {result['taken_at'][:10]}, commit `{result['commit']}`: {machine['cores']} cores "
        f"({machine['processor']}), Python {machine['python']}. Each pod is a container of Docker with the limits, "
        "mounts and environment of `overlays/prod`, under reads and writes that arrive at a set rate. The knee is the "
        f"highest rate at which {in_time['percent']:g} % are answered within {in_time['within_ms']:g} ms. "
        f"[All of it](../{_link(path)})."
    )
    head = ("a pod of", "requests/s at the knee", "at most", "CPU there", "memory at rest", "at its peak", "limit")
    lines = [conditions, "", f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    for pod in result["pods"]:
        knee, cpus = pod["knee_per_second"], pod["knee_cpus"]
        cells = (
            f"{pod['service']}, {pod['workers']} workers",
            "–" if knee is None else number(round(knee)),
            number(round(pod["most_per_second"])),
            "–" if cpus is None else f"{cpus:.2f} of {pod['cpu_limit']:g}",
            *(f"{pod[key]:.0f} MiB" for key in ("rest_mib", "peak_mib", "memory_limit_mib")),
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _name(subject: str) -> str:
    return SENTENCES.get(subject, subject)


def _value(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "%" else f"{value:.2f} {unit}".rstrip()


def _verdict(holds: bool | None) -> str:
    return "" if holds is None else "holds" if holds else "**missed**"


def _cell(text: str) -> str:
    """Text as a cell of a table in Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _link(path: Path) -> str:
    """From the root of the tree, which is two folders above every result."""
    return path.relative_to(path.parents[2]).as_posix()


Sections = tuple[tuple[str, str, Callable[[Mapping[str, Any]], bool], Callable[[Path, Mapping[str, Any]], str]], ...]
SECTIONS: Mapping[Path, Sections] = {
    README: (
        ("evidence", "make evidence", is_evidence, render_evidence),
        ("figures", "make bench", is_bench, render_bench),
    ),
    KUBERNETES: (("sizing", "make sizing", is_sizing, render_sizing),),
}
"""For each document: the word of the two marks between which a kind stands, what makes it, which it is, its text."""


def filled(document: Path, before: str, results: Path = RESULTS) -> str:
    """The text of a document with its figures made anew. Raises ValueError if it has no place for them."""
    for word, verb, wanted, render in SECTIONS[document]:
        begin, end = f"<!-- {word} -->", f"<!-- end of {word} -->"
        head, found_begin, rest = before.partition(begin)
        _, found_end, tail = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"{document.name} has no lines {begin!r} and {end!r}")
        found = newest(wanted, results)
        section = render(*found) if found else f"No result is committed yet: run `{verb}`."
        before = f"{head}{begin}\n{section}\n{end}{tail}"
    return before


def main() -> int:
    """Write, or with `--check` compare. Returns the exit status."""
    status = 0
    for document in SECTIONS:
        before = document.read_text("utf-8")
        wanted = filled(document, before)
        if wanted == before:
            continue
        name = document.relative_to(ROOT)
        if "--check" in sys.argv:
            print(f"The figures in {name} are out of date: run `make docs`")
            status = 1
        else:
            document.write_text(wanted, "utf-8")
            print(f"wrote {name}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
