"""The list of licences: true, complete, and nothing in it that may not be shipped."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.licences import ALLOWED, EXCEPTIONS, refused
from scripts.shipped import SHIPPED, allows

Licences = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path, root: Path) -> Path:
    """A copy of what the list is made from."""
    for name in [*SHIPPED.values(), "docs/licences.md", "Dockerfile"]:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / "tree" / name)
    return tmp_path / "tree"


@pytest.fixture
def licences(tree: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Licences:
    """Run `make licences` on the copy; what `install` puts into a folder is installed too."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    return lambda *words: subprocess.run(
        [sys.executable, "-m", "scripts.licences", str(tree), *words],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip


def install(tmp_path: Path, *said: str, text: str = "") -> None:
    """A package `example` that says this of itself."""
    info = tmp_path / "installed" / "example-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("\n".join(["Metadata-Version: 2.1", "Name: example", "Version: 1.0", *said]))
    info.joinpath("LICENSE").write_text(text)
    info.joinpath("RECORD").write_text("example-1.0.dist-info/LICENSE,,\n")


def pin(tree: Path, line: str = "example==1.0") -> None:
    """Ship it with the user service."""
    path = tree / "requirements/user.txt"
    path.write_text(f"{path.read_text('utf-8')}{line} --hash=sha256:{'0' * 64}\n", "utf-8")


def test_the_list_is_true(licences: Licences) -> None:
    """What is committed is what is shipped."""
    done = licences("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_list_has_every_package_of_every_image(root: Path) -> None:
    """Each pin of what is shipped stands in it with its version, but for those of other platforms."""
    rows = dict(
        re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| ", (root / "docs/licences.md").read_text("utf-8"), re.MULTILINE)
    )
    for file in SHIPPED.values():
        for name, version, marker in re.findall(r"(?m)^([\w-]+)==(\S+)( ;)?", (root / file).read_text("utf-8")):
            assert marker or rows[name] == version
    assert not rows.keys() & {"pywin32", "colorama", "async-timeout"}


def test_a_new_package_makes_it_out_of_date(licences: Licences, tree: Path, tmp_path: Path) -> None:
    """The check says so and changes nothing; `make licences` adds a row."""
    install(tmp_path, "License-Expression: MIT")
    pin(tree)
    before = (tree / "docs/licences.md").read_text("utf-8")
    done = licences("--check")
    assert (done.returncode, done.stderr) == (1, "docs/licences.md is not what is shipped: run `make licences`\n")
    assert (tree / "docs/licences.md").read_text("utf-8") == before
    assert licences().returncode == 0
    assert "\n| example | 1.0 | MIT | user |\n" in (tree / "docs/licences.md").read_text("utf-8")
    assert licences("--check").returncode == 0


@pytest.mark.parametrize(
    ("said", "expression"),
    [
        ("License-Expression: GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("License-Expression: MIT AND AGPL-3.0-only", "MIT AND AGPL-3.0-only"),
        ("License: LGPL with exceptions", "LGPL-3.0-or-later"),
        ("License: SSPL-1.0", "SSPL-1.0"),
    ],
)
def test_strong_copyleft_is_not_shipped(
    licences: Licences, tree: Path, tmp_path: Path, said: str, expression: str
) -> None:
    """It fails, written or checked; what psycopg2 may have another package may not."""
    install(tmp_path, said)
    pin(tree)
    for words in ((), ("--check",)):
        done = licences(*words)
        assert done.returncode == 1
        assert f"example 1.0: {expression} is not allowed in what is shipped" in done.stderr


@pytest.mark.parametrize(
    ("said", "text", "expression"),
    [
        (["License-Expression: MIT OR GPL-3.0-only", "License: anything"], "", "MIT OR GPL-3.0-only"),
        (["License: Apache 2.0"], "", "Apache-2.0"),
        (["License: see the file", "Classifier: License :: OSI Approved :: MIT License"], "", "MIT"),
        (["License: BSD"], "Neither the name of", "BSD-3-Clause"),
        (["Classifier: License :: OSI Approved :: BSD License"], "Redistributions of", "BSD-2-Clause"),
    ],
)
def test_what_packages_say(
    licences: Licences, tree: Path, tmp_path: Path, said: list[str], text: str, expression: str
) -> None:
    """The newest field counts; old words are translated, and of the BSD licences the text says which it is."""
    install(tmp_path, *said, text=text)
    pin(tree)
    done = licences()
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n| example | 1.0 | {expression} | user |\n" in (tree / "docs/licences.md").read_text("utf-8")


def test_a_package_that_does_not_say_fails(licences: Licences, tree: Path, tmp_path: Path) -> None:
    """Nothing is guessed."""
    install(tmp_path, "License: Free for all")
    pin(tree)
    done = licences()
    assert done.returncode == 1
    assert "example 1.0 says nothing that is known of its licence: 'Free for all'" in done.stderr


def test_what_is_not_installed_here_keeps_its_row(licences: Licences, tree: Path) -> None:
    """On a Python or a system that needs a package less, its row stays; one that was never there fails."""
    pin(tree)
    done = licences("--check")
    assert done.returncode == 1
    assert "example 1.0 is shipped and not installed here" in done.stderr
    page = tree / "docs/licences.md"
    page.write_text(
        page.read_text("utf-8").replace("| flask | ", "| example | 1.0 | MIT | user |\n| flask | ", 1), "utf-8"
    )
    assert licences("--check").returncode == 0


def test_what_is_for_other_platforms_is_not_shipped(licences: Licences, tree: Path) -> None:
    """Images are Linux and one Python."""
    pin(tree, "example==1.0 ; sys_platform == 'win32' or python_full_version < '3.11.3'")
    assert licences("--check").returncode == 0


def test_alternatives_and_sums() -> None:
    """Of alternatives one has to be allowed, of a sum each."""
    assert allows("GPL-3.0-only OR MIT", ALLOWED)
    assert allows("MPL-2.0 AND (GPL-2.0-only OR BSD-2-Clause)", ALLOWED)
    assert not allows("MIT AND GPL-3.0-only", ALLOWED)
    assert not allows("GPL-2.0-only WITH Classpath-exception-2.0", ALLOWED)


def test_exceptions_are_for_one_package_that_is_shipped() -> None:
    """psycopg2 passes and nobody else does; without it the exception has to go."""
    lgpl = "LGPL-3.0-or-later"
    assert refused({("psycopg2-binary", "2.9"): lgpl}) == []
    assert len(refused({("psycopg2-binary", "2.9"): lgpl, ("other", "1"): lgpl})) == 1
    assert refused({("flask", "3"): "BSD-3-Clause"}) == [
        "psycopg2-binary is not shipped any more: take it out of EXCEPTIONS"
    ]


def test_every_exception_is_explained(root: Path) -> None:
    """docs/licences.md says why."""
    before = (root / "docs/licences.md").read_text("utf-8").partition("<!-- licences")[0]
    assert EXCEPTIONS
    for name, expression in EXCEPTIONS.items():
        assert f"`{name}`" in before
        assert f"`{expression}`" in before
