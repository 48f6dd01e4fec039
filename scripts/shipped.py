"""What is shipped: the pins of each image and of the function, as far as they apply there, and their licences.

Licences are what the packages say of themselves: `License-Expression` (PEP 639), else the older fields, which say it in
words that stand for an SPDX expression here. Which of the BSD licences is meant says only the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from license_expression import ExpressionError, ParseError, get_spdx_licensing

from scripts.check_pins import FUNCTION, SERVICES, Pinned, parse

SHIPPED = {
    **{service: f"requirements/{service}.txt" for service in SERVICES},
    "load": "requirements/load.txt",
    "redirect": f"{FUNCTION}.txt",
}
"""Pin files by what they are for: images of services, the image of the load test, the function."""

WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "LGPL with exceptions": "LGPL-3.0-or-later",
    "MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: BSD License": "BSD",
    "BSD": "BSD",
}
"""What old metadata says, as SPDX has it. `BSD` may be two licences."""

_SPDX = get_spdx_licensing()


class LicenceUnknown(Exception):
    """A package does not say its licence in words that are known here."""


@dataclass(frozen=True)
class Shipped:
    """One package in what is shipped."""

    pinned: Pinned
    into: str  # a key of SHIPPED


def platform(root: Path) -> dict[str, str]:
    """What is true of the images, for markers: Linux, and the Python that the Dockerfile names."""
    found = re.search(
        r"^ARG PYTHON_IMAGE=python:((\d+\.\d+)\.\d+)-", (root / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    if found is None:
        raise ValueError("The Dockerfile names no Python")
    return {
        "implementation_name": "cpython",
        "implementation_version": found[1],
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": found[1],
        "python_version": found[2],
        "sys_platform": "linux",
    }


def shipped(root: Path) -> list[Shipped]:
    """All that is shipped, wherever it is asked: what is for other platforms is not."""
    here = platform(root)
    return [
        Shipped(each, into)
        for into, file in SHIPPED.items()
        for each in parse(root / file)[0]
        if each.marker is None or each.marker.evaluate(here)
    ]


def licence(name: str, version: str) -> str | None:
    """The licence of an installed package, as an SPDX expression. None: that version is not installed.

    Raises:
        LicenceUnknown: it does not say.
    """
    found = next(iter(metadata.distributions(name=name)), None)
    if found is None or found.version != version:
        return None
    fields = found.metadata
    classified = [each for each in fields.get_all("Classifier") or [] if each.startswith("License :: ")]
    said: list[str | None] = [fields["License-Expression"], fields["License"], *classified]
    for words in filter(None, said):
        expression = WORDS.get(words, words)
        if expression == "BSD":
            expression = "BSD-3-Clause" if _forbids_endorsement(found) else "BSD-2-Clause"
        if is_expression(expression):
            return expression
    raise LicenceUnknown(f"{name} {version} says nothing that is known of its licence: {fields['License']!r}")


def is_expression(text: str) -> bool:
    """Whether it is an SPDX expression of known licences."""
    try:
        return _SPDX.parse(text, validate=True, strict=True) is not None
    except (ExpressionError, ParseError):
        return False


def allows(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be kept to with the allowed licences alone: of `OR` one will do.

    Raises:
        ExpressionError: it is none.
    """

    def decide(node: object) -> bool:
        if isinstance(node, _SPDX.OR):
            return any(map(decide, node.args))
        if isinstance(node, _SPDX.AND):
            return all(map(decide, node.args))
        return str(node) in allowed

    parsed = _SPDX.parse(expression, validate=True)
    if parsed is None:
        raise ExpressionError("There is no licence")
    return decide(parsed)


def _forbids_endorsement(found: metadata.Distribution) -> bool:
    """Whether the text has the clause that makes a BSD licence the one of three."""
    texts = [each for each in found.files or [] if re.match(r"LICEN[CS]E|COPYING", each.name, re.IGNORECASE)]
    return any(re.search(r"Neither\s+the\s+names?\b", Path(str(each.locate())).read_text("utf-8")) for each in texts)
