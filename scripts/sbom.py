"""`make sbom`: a bill of materials (CycloneDX 1.6, JSON) of each image and of the function, in build/sbom/.

Made from the pins, so it says what is put in and not what somebody finds afterwards: every package with its version,
its licence, the SHA-256 of each file that may be installed for it, and what needs what. What is not pinned here, the
base image and the C libraries inside wheels, is not in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from scripts.check_pins import SERVICES, Closure, Pinned, packages, read_pins, requirement_lines
from scripts.licences import licences
from scripts.shipped import SHIPPED, shipped

ROOT = Path(__file__).resolve().parent.parent
OWN = "Apache-2.0"
TOP = "storefront"


def library(pinned: Pinned, licence: str) -> Component:
    """A pinned package. `pkg:pypi/…` stands where an address would: which index it comes from is not ours to say."""
    purl = PackageURL("pypi", name=pinned.name, version=str(pinned.version))
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(purl.to_string()),
        comment="one of these files, by platform",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in pinned.hashes],
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=pinned.name,
        version=str(pinned.version),
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[LicenseFactory().make_from_string(licence)],
        external_references=[files],
    )


def own(name: str, version: str) -> Component:
    """A package of this tree."""
    licensed = [LicenseFactory().make_from_string(OWN)]
    return Component(type=ComponentType.LIBRARY, name=name, version=version, bom_ref=name, licenses=licensed)


def roots(root: Path, into: str) -> list[str]:
    """The requirements that an image or the function begins with."""
    if into in SERVICES:
        return [f"storefront-{into}"]
    return requirement_lines(root / "requirements/load.in") if into == "load" else ["storefront-links-lookup[function]"]


def bill(root: Path, into: str, found: dict[tuple[str, str], str]) -> Bom:
    """The bill of materials of one image, or of the function.

    Raises:
        RuntimeError: what is installed is not what is pinned, so nothing is known of what needs what.
    """
    local = packages(root)
    closure = Closure(read_pins(root / SHIPPED[into])[0], local)
    closure.follow(roots(root, into), TOP)
    if closure.errors:
        raise RuntimeError("\n".join(closure.errors))
    top = Component(
        type=ComponentType.APPLICATION,
        name=f"storefront-{into}",
        version=release(root),
        bom_ref=TOP,
        licenses=[LicenseFactory().make_from_string(OWN)],
    )
    components = {name: own(name, package.version) for name, package in local.items() if name in closure.edges}
    for each in shipped(root):
        if each.into == into:
            name, version = each.pinned.name, str(each.pinned.version)
            components[name] = library(each.pinned, found[name, version])
    bom = Bom()
    bom.metadata.tools.components.add(this_component())
    bom.metadata.component = top
    bom.components.update(components.values())
    for name, component in {TOP: top, **components}.items():
        needed = sorted(closure.edges.get(name, ()))
        bom.register_dependency(component, [components[each] for each in needed if each in components])
    return bom


def release(root: Path) -> str:
    """The number of the release, as the images have it."""
    found = re.search(r"^ARG VERSION=(\S+)", (root / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError("The Dockerfile names no version")
    return found[1]


def write(root: Path, into: str, found: dict[tuple[str, str], str], output: Path) -> Path:
    """Write one bill of materials. Raises RuntimeError if it is none by CycloneDX's own schema."""
    text = JsonV1Dot6(bill(root, into, found)).output_as_string(indent=2)
    if errors := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise RuntimeError(f"{into}: {errors}")
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{into}.cdx.json"
    path.write_text(text + "\n", "utf-8")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Write all of them and print where. The exit status is 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="make sbom", description="Write the bills of materials.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "sbom", help="the folder for them")
    output = parser.parse_args(arguments).output
    found, errors = licences(ROOT)
    try:
        paths = [write(ROOT, into, found, output) for into in SHIPPED] if not errors else []
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    for each in errors:
        print(each, file=sys.stderr)
    for path in paths:
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
