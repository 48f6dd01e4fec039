"""`make audit`: whether a pinned package has a known vulnerability, as pip-audit learns it from the OSV database.

Every line of every pin file counts, for whatever platform it is. A known vulnerability is an error unless
requirements/accepted.toml lets it pass; so is one that is let pass for longer than it says, or that is not there any
more.

Where the database is not reached nothing is known. That is said, in words that nobody takes for a clean bill, and is
no error, so that a machine without the internet can go on; `--online` makes it one.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import packaging.version
import requests
from packaging.utils import canonicalize_name
from pip_audit._service import OsvService, ResolvedDependency, ServiceError, VulnerabilityResult
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.check_pins import parse

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED = "requirements/accepted.toml"
LONGEST = datetime.timedelta(days=184)
TIMEOUT_S = 10
"""Of one connect and one read. Nothing is tried twice."""
AT_ONCE = 8
LIMIT_S = 120.0

Version = tuple[str, str]
"""A package, by its canonical name, and its version."""
Files = Mapping[Version, list[str]]
"""The files that pin it."""
Found = Mapping[Version, list[VulnerabilityResult]]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accepted(Strict):
    """A known vulnerability that may pass, until that day."""

    package: str
    id: str = Field(min_length=1)
    until: datetime.date
    reason: str = Field(min_length=10)


class AcceptedFile(Strict):
    accepted: list[Accepted] = []


class NotReached(Exception):
    """The database does not answer, or answers nothing that is of use; the text is the name of the exception."""


def pin_files(root: Path) -> list[Path]:
    """Every pin file of the tree."""
    patterns = ("requirements/*.txt", "functions/*/requirements.txt", "k8s/tools/requirements.txt")
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def pinned_versions(root: Path) -> tuple[dict[Version, list[str]], list[str]]:
    """Each pinned version with the files that pin it, and what is wrong with these."""
    versions: dict[Version, list[str]] = defaultdict(list)
    errors = []
    for path in pin_files(root):
        name = path.relative_to(root).as_posix()
        pinned, wrong = parse(path)
        errors += [f"{name}: {each}" for each in wrong]
        for each in pinned:
            versions[each.name, str(each.version)].append(name)
    if not versions:
        errors.append("There is no pin file here")
    return dict(versions), errors


def read_accepted(path: Path, today: datetime.date) -> tuple[list[Accepted], list[str]]:
    """What may pass, and what is wrong with that."""
    try:
        accepted = AcceptedFile.model_validate(tomllib.loads(path.read_text("utf-8"))).accepted
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        return [], [f"{ACCEPTED}: {error}"]
    errors = []
    for each in accepted:
        if each.until < today:
            errors.append(f"{ACCEPTED}: {each.id} of {each.package} was accepted until {each.until}, which is over")
        elif each.until > today + LONGEST:
            errors.append(f"{ACCEPTED}: {each.id} of {each.package} is accepted for more than {LONGEST.days} days")
    return accepted, errors


def ask(
    versions: Iterable[Version], service_url: str | None, limit_s: float
) -> dict[Version, list[VulnerabilityResult]]:
    """What the database knows of each of these.

    Args:
        service_url: another database with the same interface.
        limit_s: longest time for all of them.

    Raises:
        NotReached: it does not answer, or not in time.
    """
    ends_s = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory() as directory:  # an answer of yesterday is no answer
        service = OsvService(Path(directory), TIMEOUT_S, service_url or OsvService.DEFAULT_OSV_URL)

        def query(version: Version) -> tuple[Version, list[VulnerabilityResult]]:
            if time.monotonic() > ends_s:
                raise NotReached("too slow")
            dependency = ResolvedDependency(version[0], packaging.version.Version(version[1]))
            return version, service.query(dependency)[1]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                return dict(pool.map(query, versions))
            except (ServiceError, requests.RequestException) as error:
                raise NotReached(type(error.__cause__ or error).__name__) from None
            finally:
                pool.shutdown(cancel_futures=True)


def judge(found: Found, files: Files, accepted: Iterable[Accepted]) -> Iterator[str]:
    """What is wrong, one line each: vulnerabilities that are not accepted, and accepted ones that are not there."""
    unused = list(accepted)
    for (name, version), vulnerabilities in found.items():
        for vulnerability in vulnerabilities:
            passing = [
                one for one in accepted if canonicalize_name(one.package) == name and vulnerability.has_any_id({one.id})
            ]
            unused = [one for one in unused if one not in passing]
            if not passing:
                yield f"{name}=={version} ({', '.join(files[name, version])}): {_described(vulnerability)}"
    yield from (f"{ACCEPTED}: {one.id} of {one.package} is not found any more: take it out" for one in unused)


def _described(vulnerability: VulnerabilityResult) -> str:
    called = vulnerability.id
    if vulnerability.aliases:
        called += f" ({', '.join(sorted(vulnerability.aliases))})"
    fixed = ", ".join(map(str, vulnerability.fix_versions))
    summary = " ".join(vulnerability.description.split())[:200]
    return f"{called}, {f'mended in {fixed}' if fixed else 'not mended yet'}: {summary}"


def main(arguments: list[str] | None = None) -> int:
    """Print what is wrong, and in the last line what was done. The exit status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make audit", description="Look for known vulnerabilities in what is pinned.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="another tree")
    parser.add_argument("--online", action="store_true", help="fail if the vulnerability service is not reached")
    parser.add_argument("--service-url", help="another vulnerability service, with OSV's interface")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="longest time that the service may take, s")
    options = parser.parse_args(arguments)
    versions, errors = pinned_versions(options.root)
    accepted, wrong = read_accepted(options.root / ACCEPTED, datetime.datetime.now(datetime.UTC).date())
    errors += wrong
    summary, missed = "", False
    if not errors:
        try:
            found = ask(versions, options.service_url, options.limit_s)
        except NotReached as reason:
            missed = True
            summary = (
                f"NOT AUDITED: the vulnerability service was not reached ({reason}). Nothing is known of "
                f"{len(versions)} pinned versions; run `make audit` where it is."
            )
        else:
            errors = list(judge(found, versions, accepted))
            summary = f"Audited {len(versions)} pinned versions: no known vulnerability"
            summary += f" but {len(accepted)} accepted, {ACCEPTED} says why." if accepted else "."
    for each in errors:
        print(each, file=sys.stderr)
    if not errors:
        print(summary)
    return 1 if errors or (missed and options.online) else 0


if __name__ == "__main__":
    sys.exit(main())
