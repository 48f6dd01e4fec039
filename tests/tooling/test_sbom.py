"""`make sbom`: a bill of materials for each image and for the function, valid, complete, and made from the pins."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.licences import ROW
from scripts.shipped import SHIPPED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each, by what it is of."""
    output = tmp_path_factory.mktemp("sbom")
    command = [sys.executable, "-m", "scripts.sbom", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in output.iterdir()} == {f"{into}.cdx.json" for into in SHIPPED}
    return {into: (output / f"{into}.cdx.json").read_text("utf-8") for into in SHIPPED}


@pytest.fixture(params=sorted(SHIPPED))
def into(request: pytest.FixtureRequest) -> str:
    """Each image, and the function."""
    found: str = request.param
    return found


@pytest.fixture
def bill(bills: dict[str, str], into: str) -> dict[str, Any]:
    """One of them."""
    found: dict[str, Any] = json.loads(bills[into])
    return found


def pinned(into: str) -> dict[str, tuple[str, set[str]]]:
    """(version, hashes) of each package in its pin file that is for every platform, read without our own reader."""
    text = (ROOT / SHIPPED[into]).read_text("utf-8")
    return {
        name: (version, set(re.findall(r"sha256:([0-9a-f]{64})", rest)))
        for name, version, rest in re.findall(r"(?m)^([\w-]+)==(\S+) ((?:\\\n    --hash\S+ ?)+)", text)
    }


def test_it_is_valid(bills: dict[str, str], into: str) -> None:
    """CycloneDX's own schema of 1.6 takes it, formats and unknown fields included."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bills[into]) is None


def test_the_validator_sees_what_is_wrong(bills: dict[str, str]) -> None:
    """The test above does not pass whatever happens."""
    spoilt = bills["user"].replace('"type": "library"', '"type": "libary"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(spoilt) is not None


def test_every_pin_is_in_it(bill: dict[str, Any], into: str) -> None:
    """With its version, the hash of each of its files, and its licence as docs/licences.md has it."""
    components = {each["name"]: each for each in bill["components"]}
    pins = pinned(into)
    assert len(pins) > 15
    assert {name for name in components if not name.startswith("storefront-")} >= pins.keys()
    licences = {name: text for name, _, text in ROW.findall((ROOT / "docs/licences.md").read_text("utf-8"))}
    for name, (version, hashes) in pins.items():
        each = components[name]
        assert each["version"] == version
        assert each["purl"] == f"pkg:pypi/{name}@{version}"
        (files,) = each["externalReferences"]
        assert {digest["content"] for digest in files["hashes"]} == hashes
        (licence,) = each["licenses"]
        assert licence.get("expression", licence.get("license", {}).get("id")) == licences[name].strip()


def test_what_is_for_other_platforms_is_not(bills: dict[str, str]) -> None:
    """The images are Linux."""
    assert "pywin32" not in bills["load"]
    assert "async-timeout" not in bills["user"]


def test_everything_hangs_together(bill: dict[str, Any], into: str) -> None:
    """From the top each component is reached: nothing is in it that nothing needs."""
    edges = {each["ref"]: set(each.get("dependsOn", ())) for each in bill["dependencies"]}
    top = bill["metadata"]["component"]
    assert top["name"] == f"storefront-{into}"
    reached: set[str] = set()
    ahead = {top["bom-ref"]}
    while ahead:
        ref = ahead.pop()
        reached.add(ref)
        ahead |= edges[ref] - reached
    assert reached == {each["bom-ref"] for each in bill["components"]} | {top["bom-ref"]}


def test_our_own_packages_are_in_it(bills: dict[str, str]) -> None:
    """The chassis in each service's, what the function shares in the function's; the load test has none."""
    own = {
        into: {each["name"] for each in json.loads(text)["components"] if each["name"].startswith("storefront-")}
        for into, text in bills.items()
    }
    assert own["user"] == {"storefront-user", "storefront-chassis"}
    assert own["links"] == {"storefront-links", "storefront-chassis", "storefront-links-lookup"}
    assert own["redirect"] == {"storefront-links-lookup"}
    assert own["load"] == set()


def test_it_is_no_part_of_the_tree() -> None:
    """git does not see where it is written."""
    done = subprocess.run(["git", "check-ignore", "build/sbom/user.cdx.json"], cwd=ROOT, check=False)
    assert done.returncode == 0
