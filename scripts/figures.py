"""The figures in the README, made from the newest result in loadtest/results that has all parts.

`python scripts/figures.py` writes them, `--check` says whether they are out of date and exits 1 if so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "loadtest" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
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


def newest(directory: Path = RESULTS) -> tuple[Path, dict[str, Any]] | None:
    """The result with all parts that was taken last, None if there is none."""
    found = []
    for path in directory.glob("*.json"):
        result = json.loads(path.read_text())
        if all(part in result for part in PARTS):
            found.append((result["taken_at"], path, result))
    if not found:
        return None
    _, path, result = max(found, key=lambda each: each[0])
    return path, result


def render(path: Path, result: dict[str, Any]) -> str:
    """The section of the README: ratios first, because they travel to other machines, then the limits."""
    machine, settings = result["machine"], result["settings"]
    conditions = (
        f"`make bench`, {result['taken_at'][:10]}, commit `{result['commit']}`: {machine['cores']} cores "
        f"({machine['processor']}), Python {machine['python']}; one worker on one core, wrk on another, "
        f"{settings['connections']} keep-alive connections; metrics, request ids and access log on everywhere "
        f"but in the bare functions; {settings['rounds']} interleaved rounds of {settings['seconds']:g} s, medians. "
        f"[All of it]({path.relative_to(ROOT)}); [how it is measured](loadtest/README.md)."
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


def _name(subject: str) -> str:
    return SENTENCES.get(subject, subject)


def _value(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "%" else f"{value:.2f} {unit}".rstrip()


def _verdict(holds: bool | None) -> str:
    return "" if holds is None else "holds" if holds else "**missed**"


def readme() -> str:
    """The README with its figures made anew. Raises ValueError if it has no place for them."""
    before, begin, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no lines {BEGIN!r} and {END!r}")
    found = newest()
    section = render(*found) if found else "No result is committed yet: run `make bench`."
    return f"{before}{BEGIN}\n{section}\n{END}{after}"


def main() -> int:
    """Write, or with `--check` compare. Returns the exit status."""
    wanted = readme()
    if wanted == README.read_text():
        return 0
    if "--check" in sys.argv:
        print("The figures in README.md are out of date: run `make docs`")
        return 1
    README.write_text(wanted)
    print("wrote README.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
