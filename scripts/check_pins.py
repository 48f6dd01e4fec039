"""`make lock-check`: the pins are exact, hashed, complete, alike everywhere, and name no place to download from.

It needs no index: what a pinned package needs in its turn is read from the packages in the virtual environment, which
`make setup` made from the same pins. So it judges for this platform; `make lock` resolves for all of them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")
SERVICES = ("catalogue", "user", "gateway", "links")
FUNCTION = "functions/redirect/requirements"
"""The pins of the redirect function lie beside it, where its platform looks for them."""
PEERS = "peers"
"""`make evidence` installs these, where it can: what is not there is judged by its pin alone."""


@dataclass(frozen=True)
class Pin:
    """What is pinned of one package."""

    version: Version
    applies: bool  # on this platform


@dataclass(frozen=True)
class Package:
    """One package of this tree, as its pyproject.toml describes it."""

    dependencies: list[str]
    extras: dict[str, list[str]]
    version: str


def packages(root: Path) -> dict[str, Package]:
    """The packages of the tree under `root`, by name."""
    found = {}
    folders = [*sorted((root / "functions").iterdir()), *sorted((root / "services").iterdir())]
    for path in [root / "chassis", *folders, root / "stack"]:
        if (path / "pyproject.toml").is_file():
            project = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))["project"]
            extras = project.get("optional-dependencies", {})
            found[project["name"]] = Package(project["dependencies"], extras, project["version"])
    return found


@dataclass(frozen=True)
class Pinned:
    """One line of a pin file, as it stands there."""

    name: str  # canonical
    version: Version
    marker: Marker | None
    hashes: tuple[str, ...]  # SHA-256, of each file that the index has of this version


def parse(path: Path) -> tuple[list[Pinned], list[str]]:
    """The lines of a pin file, whatever platform they are for, and what is wrong with them."""
    pinned: list[Pinned] = []
    lines = path.read_text("utf-8").splitlines()
    errors = [f"{line.strip()!r} names an address" for line in lines if "://" in line]
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
        words, _, hashes = line.partition(" --hash")
        if line.startswith("-") or " @ " in words:
            errors.append(f"{words.strip()!r} is an option or a path: only versions and hashes belong here")
            continue
        try:
            requirement = Requirement(words)
        except InvalidRequirement as error:
            errors.append(f"{words!r} is no requirement: {str(error).splitlines()[0]}")
            continue
        specifiers = list(requirement.specifier)
        if [one.operator for one in specifiers] != ["=="] or specifiers[0].version.endswith("*"):
            errors.append(f"{words!r} is not pinned to one version")
            continue
        found = tuple(HASH.findall(f" --hash{hashes}"))
        if not found:
            errors.append(f"{requirement.name} has no hash")
        version = Version(specifiers[0].version)
        pinned.append(Pinned(canonicalize_name(requirement.name), version, requirement.marker, found))
    return pinned, errors


def read_pins(path: Path) -> tuple[dict[str, Pin], list[str]]:
    """The pins of one file by canonical name, and what is wrong with its lines."""
    pins: dict[str, Pin] = {}
    pinned, errors = parse(path)
    for each in pinned:
        applies = each.marker is None or each.marker.evaluate()
        if applies or each.name not in pins:  # one for older Pythons and one for newer: the one for this
            pins[each.name] = Pin(each.version, applies)
    return pins, errors


class Closure:
    """Follows requirements through the tree's packages and the installed ones, and judges the pins by them."""

    def __init__(self, pins: dict[str, Pin], local: dict[str, Package], *, optional: bool = False) -> None:
        self.errors: list[str] = []
        self.reached: set[str] = set()
        self.edges: dict[str, set[str]] = {}
        """Who needs what, by name."""
        self._pins = pins
        self._local = local
        self._optional = optional
        self._seen: set[tuple[str, str]] = set()

    def follow(self, requirements: Iterable[str], wanted_by: str, extras: Iterable[str] = ()) -> None:
        """Check these requirements and all that follow from them. `extras` of `wanted_by` are switched on."""
        for text in requirements:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras]):
                self._require(requirement, wanted_by)

    def _require(self, requirement: Requirement, wanted_by: str) -> None:
        name = canonicalize_name(requirement.name)
        self.edges.setdefault(wanted_by, set()).add(name)
        seen = (str(requirement), wanted_by)
        if seen in self._seen:
            return
        self._seen.add(seen)
        if package := self._local.get(name):
            self.follow(package.dependencies, name)
            for extra in requirement.extras:
                self.follow(package.extras[extra], name)
            return
        pin = self._pins.get(name)
        if pin is None or not pin.applies:
            self.errors.append(f"{name} is not pinned; {wanted_by} needs {requirement}")
            return
        self.reached.add(name)
        if not requirement.specifier.contains(pin.version, prereleases=True):
            self.errors.append(f"{name}=={pin.version} is not what {wanted_by} needs: {requirement}")
        installed = metadata.distribution(name) if _installed(name) else None
        if installed is None and self._optional:
            return
        if installed is None or Version(installed.version) != pin.version:
            have = installed.version if installed else "nothing"
            self.errors.append(f"{name}=={pin.version} is pinned, {have} is installed: run `make setup`")
            return
        self.follow(installed.requires or [], name, requirement.extras)


def _installed(name: str) -> bool:
    return next(iter(metadata.distributions(name=name)), None) is not None


def requirement_lines(path: Path) -> list[str]:
    """The requirements in a file of `requirements/*.in`."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def check(root: Path) -> Iterator[str]:
    """What is wrong with the pins of the tree under `root`, a sentence each."""
    local = packages(root)
    requirements = root / "requirements"
    everything = [f"{name}[{','.join(package.extras)}]" for name, package in local.items()]
    wanted = {
        "uv": requirement_lines(requirements / "uv.in"),
        "dev": requirement_lines(requirements / "dev.in") + everything,
        "load": requirement_lines(requirements / "load.in"),
        PEERS: requirement_lines(requirements / "peers.in"),
        **{service: [f"storefront-{service}"] for service in SERVICES},
        FUNCTION: ["storefront-links-lookup[function]"],
    }
    dev, _ = read_pins(requirements / "dev.txt")
    for stem, roots in wanted.items():
        file = f"{stem}.txt" if stem == FUNCTION else f"requirements/{stem}.txt"
        pins, errors = read_pins(root / file)
        closure = Closure(pins, local, optional=stem == PEERS)
        closure.follow(roots, f"{stem}.in" if stem in ("uv", "dev", "load", PEERS) else "the tree")
        errors += closure.errors
        errors += [
            f"{name} is pinned, but nothing needs it"
            for name, pin in pins.items()
            if pin.applies and name not in closure.reached
        ]
        if stem in (*SERVICES, FUNCTION, "load"):
            errors += [
                f"{name}=={pin.version} is not what is tested: dev.txt has another or none"
                for name, pin in pins.items()
                if name not in dev or dev[name].version != pin.version
            ]
        yield from (f"{file}: {error}" for error in dict.fromkeys(errors))
    known = {f"{stem}.txt" for stem in wanted}
    for stray in sorted(path.name for path in requirements.glob("*.txt") if path.name not in known):
        yield f"requirements/{stray}: belongs to nothing that is checked"


def main(root: Path = ROOT) -> int:
    """Print what is wrong. The exit status is 1 if anything is."""
    errors = list(check(root))
    for error in errors:
        print(error, file=sys.stderr)
    if errors:
        print("`make lock` compiles the pins anew.", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()) if sys.argv[1:] else main())
