"""What an image of a service gets: its wheels and its own pins, nothing of the development set."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# Every module but those that build the application at import, which need their settings.
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, f"{sys.argv[1]}."):
    last = module.name.rpartition(".")[2]
    if last not in ("wsgi", "asgi", "gunicorn_conf") and ".migrations" not in module.name:
        importlib.import_module(module.name)
"""


def build(project: Path, into: Path) -> Path:
    """The wheel of a package of this tree."""
    into.mkdir(parents=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.mark.slow
@pytest.mark.parametrize("service", ["catalogue", "user", "gateway", "links"])
def test_a_service_runs_from_its_wheels_and_pins(tmp_path: Path, checkout: Path, root: Path, service: str) -> None:
    """The pins of a service are enough to import all of it, and its wheel has every file of the package."""
    local = ("chassis", f"services/{service}", *(["functions/redirect"] if service == "links" else []))
    wheels = [build(checkout / path, tmp_path / path) for path in local]
    environment = tmp_path / "venv"
    python = environment / "bin" / "python"
    uv = ["sh", str(root / "scripts/uv.sh")]
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    subprocess.run([*install, "--require-hashes", "-r", str(checkout / f"requirements/{service}.txt")], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", *map(str, wheels)], check=True)

    done = subprocess.run(
        [python, "-I", "-c", IMPORT_ALL, service], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    source = checkout / f"services/{service}/src"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert files <= set(zipfile.ZipFile(wheels[1]).namelist())


@pytest.mark.slow
def test_the_function_runs_from_its_folder_and_pins(tmp_path: Path, checkout: Path, root: Path) -> None:
    """What is deployed is the folder without what .gcloudignore names: with its own pins, that is enough."""
    folder = tmp_path / "function"
    ignored = (checkout / "functions/redirect/.gcloudignore").read_text().split()
    shutil.copytree(checkout / "functions/redirect", folder, ignore=shutil.ignore_patterns(*ignored))
    assert {path.name for path in folder.iterdir()} == {".gcloudignore", "links_lookup", "main.py", "requirements.txt"}
    environment = tmp_path / "venv"
    python = environment / "bin" / "python"
    uv = ["sh", str(root / "scripts/uv.sh")]
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    subprocess.run([*install, "--require-hashes", "-r", str(folder / "requirements.txt")], check=True)
    ask = (
        "from functions_framework import create_app; "
        "print(create_app('redirect', 'main.py').test_client().get('/health/live').status_code)"
    )
    done = subprocess.run([python, "-c", ask], cwd=folder, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
