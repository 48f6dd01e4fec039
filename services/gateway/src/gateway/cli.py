"""`gateway keys`: make API keys, list them, take them back. Only a digest is stored: a key is shown once."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime

from chassis import console
from chassis.cache import Cache, CacheUnavailable
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.metrics import Metrics
from gateway.db import connected, registry_of
from gateway.registry.batch import Batch
from gateway.registry.keys import ADMIN, SCOPES, ApiKey, digest, generate
from gateway.registry.mirror import Mirror
from gateway.registry.repository import BOOTSTRAP, KeyRow, KeyTaken, Registry
from gateway.settings import RATE_LIMIT, Settings

PROGRAM = "gateway"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_RESERVED = (ADMIN, BOOTSTRAP)
"""Names that the history has for others: the key of GATEWAY_ADMIN_KEY_FILE, and the first start."""


def create(settings: Settings, *, name: str, scopes: Sequence[str], limit: str | None) -> str:
    """Make a key and print it, alone, to stdout. Returns what to say of it."""
    if name in _RESERVED:
        raise console.Failed(f"{name}: is the gateway's own name for somebody else, choose another one")
    text = generate()
    with registry_of(settings) as registry:
        try:
            key = registry.add_key(name=name, digest=digest(text), scopes=sorted(set(scopes)), limit=limit)
        except KeyTaken as taken:
            raise console.Failed(f"{taken.detail}: choose another one") from None
        sys.stdout.write(f"{text}\n")  # at once: nothing that happens from here on may lose it
        sys.stdout.flush()
        tell(settings, registry, key)
    return f"That is the key {name}, for {', '.join(sorted(key.scopes))}. It is shown this once, and stored nowhere."


def revoke(settings: Settings, *, name: str) -> str:
    """Take a key back. Returns what was done; doing it again is no error."""
    with registry_of(settings) as registry:
        key = registry.revoke_key(name)
        if key is not None:
            tell(settings, registry, key)
            return f"The key {name} is revoked: every gateway refuses it within a second"
        if any(row.name == name for row in registry.list_keys()):
            return f"The key {name} was revoked before"
    raise console.Failed(f"{name}: there is no such key; see `{PROGRAM} keys list`")


def list_keys(settings: Settings) -> str:
    """Print a table of all keys to stdout. Returns how many there are."""
    with registry_of(settings) as registry:
        rows = registry.list_keys()
    sys.stdout.write(table(rows))
    sys.stdout.flush()
    holding = sum(row.revoked_at is None for row in rows)
    return f"{len(rows)} keys, {holding} of them hold"


def table(rows: Sequence[KeyRow]) -> str:
    """The keys for people to read: a line each, columns aligned."""
    lines = [("NAME", "SCOPES", "LIMIT", "CREATED", "REVOKED")]
    for row in rows:
        limit = row.rate_limit or "-"
        lines.append((row.name, ",".join(row.scopes), limit, _time(row.created_at), _time(row.revoked_at)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def tell(settings: Settings, registry: Registry, key: ApiKey) -> None:
    """Let the gateways know at once, where there is Redis. Without it they see it by themselves, in half a second."""
    if settings.redis.url is None:
        return
    metrics = Metrics(service="gateway", version=settings.app_version, commit=settings.commit)
    cache = Cache(settings.redis, metrics=metrics)
    try:
        batch = Batch(registry.state().epoch, key.revision - 1, key.revision, keys=[key])
        Mirror(cache, on_error=lambda: None).announce(batch)
    except (CacheUnavailable, Unavailable, DeadlineExceeded):
        sys.stderr.write(f"{PROGRAM}: the gateways could not be told, they will see it by themselves\n")
    finally:
        cache.close()


def _time(at: datetime | None) -> str:
    return "-" if at is None else at.isoformat(sep=" ", timespec="seconds")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("want 1 to 63 letters, digits, dots, underscores or hyphens")
    return text


def _limit(text: str) -> str:
    if not RATE_LIMIT.fullmatch(f"key={text}"):
        raise argparse.ArgumentTypeError("want a number per sec, min, hour or day, such as 600/min")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(prog=PROGRAM, description="The gateway's tools.")
    nouns = main_parser.add_subparsers(dest="noun", required=True, metavar="keys")
    keys = nouns.add_parser("keys", help="API keys", description="API keys of the gateway.")
    verbs = keys.add_subparsers(dest="verb", required=True, metavar="create|list|revoke")
    creator = verbs.add_parser("create", help="make a key and print it, this once")
    creator.add_argument("--name", type=_name, required=True, help="who it is for; stands in the history of routes")
    creator.add_argument(
        "--scope", action="append", required=True, choices=SCOPES, metavar="SCOPE",
        help=f"what it allows, may be given several times: {', '.join(SCOPES)}",
    )  # fmt: skip
    creator.add_argument(
        "--limit",
        type=_limit,
        metavar="N/UNIT",
        help="its own rate limit, for example 600/min; else that of RATE_LIMITS",
    )
    verbs.add_parser("list", help="all keys, revoked ones included; never the keys themselves")
    revoker = verbs.add_parser("revoke", help="take a key back, for good")
    revoker.add_argument("name", metavar="NAME")
    return main_parser


def run(arguments: Sequence[str] | None = None) -> str:
    """Do what the command line says, once the database is there. Returns what was done.

    Raises:
        console.Failed: with one line that says why not.
    """
    options = parser().parse_args(arguments)
    with connected(table="keys", log=False) as settings:
        if options.verb == "create":
            return create(settings, name=options.name, scopes=options.scope, limit=options.limit)
        if options.verb == "revoke":
            return revoke(settings, name=options.name)
        return list_keys(settings)


def main() -> None:
    """The console script: exit status 0, or 1 with one line on stderr."""
    console.main("gateway", run, program=PROGRAM)


if __name__ == "__main__":
    main()
