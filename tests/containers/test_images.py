"""The image of each service: what is in it, what is not, and how it runs."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest
from gcp_storage_emulator.server import create_server

from chassis.testing import free_port, wait_until
from tests.containers.conftest import ROOT, build
from tests.containers.engine import STRICT, Container, Docker

pytestmark = pytest.mark.containers

LIMIT_BYTES = 85_500_000
"""Above the base image. It may be 90 MB, but 4.5 are the standard library's bytecode, where the base has none."""

OWN = re.compile(
    r"opt/storefront/.*|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|etc/\.pwd\.lock|var/log/(faillog|lastlog)"
    r"|usr/(local/)?lib/python3.*/__pycache__/[^/]*\.pyc"
)
STRAY = re.compile(r"\.(whl|env|pem|key|toml)$|pip\.conf$|/tests?/|/(Dockerfile|uv|pip)$")
PUBLIC = "/certifi/cacert.pem"
MARKS = re.compile(rb"index-url|find-links|-----BEGIN [A-Z ]*PRIVATE KEY-----(\s|\\[nr])+[A-Za-z0-9+/]{16}")

DRAIN_S, GRACE_S = 1.0, 10
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").is_file())

LOOK_AROUND = """
import importlib.metadata, importlib.util, json, os, pathlib, shutil, sys
library = pathlib.Path(sys.prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
sources = [path for path in library.rglob("*.py")]
print(json.dumps({
    "prefix": sys.prefix,
    "packages": sorted(found.name for found in importlib.metadata.distributions(path=[str(library)])),
    "sources": len(sources),
    "uncompiled": [str(path) for path in sources if not pathlib.Path(importlib.util.cache_from_source(path)).exists()],
    "dated": [str(path) for path in library.rglob("*.pyc") if path.read_bytes()[4] != 1],
    "writable": [path for path in ("/", "/app", sys.prefix, str(library)) if os.access(path, os.W_OK)],
    "tools": [tool for tool in ("gcc", "cc", "strip", "uv", "git") if shutil.which(tool)],
}))
"""


POST = """
import sys, urllib.request
fields = {"Content-Type": "application/json"}
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], sys.argv[2].encode(), fields)).read().decode())
"""
SIGN = """
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import aws, compute_engine, external_account_authorized_user, identity_pool, impersonated_credentials
from google.auth import jwt, pluggable
from google.oauth2 import credentials, gdch_credentials, service_account
key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
account = {"client_email": "a@b.example", "private_key": key, "token_uri": "http://127.0.0.1:9/"}
signer = service_account.Credentials.from_service_account_info(account)
assert jwt.decode(jwt.encode(signer.signer, {"iat": 0, "exp": 1}), verify=False) == {"iat": 0, "exp": 1}
print("signed")
"""


@pytest.fixture(scope="module")
def engine(docker: str) -> Docker:
    """The client."""
    return Docker(docker)


@pytest.fixture(scope="module")
def base() -> str:
    """The base image."""
    (name,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return str(name)


@pytest.fixture(scope="module")
def layers(
    engine: Docker, images: Mapping[str, str], base: str, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, dict[str, bytes]]:
    """Service → every file that its image has above the base, in whichever layer; with its text if it is short."""
    archive = tmp_path_factory.mktemp("saved") / "images.tar"
    engine("save", "--output", str(archive), *images.values())
    below = len(engine.inspect(base)["RootFS"]["Layers"])
    with tarfile.open(archive) as saved:
        manifest = json.load(member(saved, "manifest.json"))
        above = {tag: each["Layers"][below:] for each in manifest for tag in each["RepoTags"]}
        found = {
            service: {name: text for layer in above[tag] for name, text in files_of(member(saved, layer))}
            for service, tag in images.items()
        }
    archive.unlink()
    return found


def member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file of an archive."""
    file = archive.extractfile(name)
    assert file is not None, name
    return file


def files_of(layer: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and, of short texts, content of everything in a layer but its folders."""
    with tarfile.open(fileobj=layer) as archive:
        for info in archive:
            is_text = info.isfile() and info.size < 100_000 and not info.name.endswith((".pyc", ".so"))
            if not info.isdir():
                yield info.name, member(archive, info.name).read() if is_text else b""


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_small(engine: Docker, images: Mapping[str, str], base: str, service: str) -> None:
    """An image adds no more than its limit to the base image."""
    assert engine.inspect(images[service])["Size"] - engine.inspect(base)["Size"] <= LIMIT_BYTES


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_says_what_it_is(engine: Docker, images: Mapping[str, str], service: str) -> None:
    """Labels, account, command, health check: no shell in between, nothing that only one service has."""
    image = engine.inspect(images[service])["Config"]
    assert image["User"] == "10001:10001"
    assert image["WorkingDir"] == "/app"
    assert image["Cmd"] == ["python", "-m", "chassis.serve"]
    assert not image["Entrypoint"]
    assert image["Healthcheck"]["Test"] == ["CMD", "python", "-m", "chassis.probe"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()}
    assert labels == {
        "title": f"storefront-{service}",
        "version": "1.0.0",
        "revision": "unknown",
        "licenses": "Apache-2.0",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_adds_the_packages_and_an_account_and_nothing_else(
    layers: Mapping[str, dict[str, bytes]], service: str
) -> None:
    """No layer has this tree, a wheel, a cache, a configuration of pip, or the settings and secrets of a machine."""
    assert any(name.endswith(f"/site-packages/{service}/__init__.py") for name in layers[service])
    assert [name for name in layers[service] if not OWN.fullmatch(name)] == []
    assert [name for name in layers[service] if STRAY.search(name) and not name.endswith(PUBLIC)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_no_layer_names_a_package_index_or_has_a_key(layers: Mapping[str, dict[str, bytes]], service: str) -> None:
    """Nothing in a layer says where its packages came from, nor is there a private key."""
    assert [name for name, text in layers[service].items() if MARKS.search(text)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_its_packages_compiled_and_no_installer(
    engine: Docker, images: Mapping[str, str], service: str
) -> None:
    """All Python code has bytecode that is valid whatever the files' dates, no installer and no compiler is there, and
    the service's account may write nowhere.
    """
    found = json.loads(engine("run", "--rm", "--network=none", images[service], "python", "-c", LOOK_AROUND))
    assert found["prefix"] == "/opt/storefront"
    assert {f"storefront-{service}", "storefront-chassis", "gunicorn"} <= set(found["packages"])
    assert not {"pip", "setuptools", "wheel", "uv", "hatchling", "pytest"} & set(found["packages"])
    assert found["sources"] > 500
    assert found["uncompiled"] == found["dated"] == found["writable"] == found["tools"] == []


@pytest.mark.parametrize("service", ["catalogue", "gateway"])
def test_an_image_runs_without_any_right(engine: Docker, images: Mapping[str, str], service: str) -> None:
    """Read-only, without capabilities and with no setting but one, a service is healthy and ends in order."""
    with Container(engine, images[service], env={"DRAIN_SECONDS": "0.2"}) as container:
        container.becomes("healthy")
        assert container.run("id", "-u") == "10001"
        container.signal("TERM")
        assert container.ended(timeout_s=10) == 0


def test_the_load_tests_image_runs_without_any_right(docker: str, load_image: str) -> None:
    """Locust starts with a root that cannot be written to and no capability, and says in a line that there are no keys.
    Of this tree it has what the load test is, and no benchmark.
    """
    started = [docker, "run", "--rm", "--network=none", *STRICT]
    done = subprocess.run([*started, load_image], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("load: /keys/keys: No such file or directory")
    listed = subprocess.run(
        [*started, "--entrypoint=ls", load_image, "-R", "/app"], capture_output=True, text=True, check=True
    )
    assert "locustfile.py" in listed.stdout
    assert not [word for word in ("bench.py", "baseline", "tests", "Dockerfile") if word in listed.stdout]


def test_version_and_commit_reach_the_service(engine: Docker, docker: str) -> None:
    """The build's arguments are in the labels, in /health and in the metrics."""
    image = build(docker, "catalogue", "storefront-catalogue:test-arguments", VERSION="9.8.7", COMMIT="c0ffee")
    port = free_port()
    try:
        labels = engine.inspect(image)["Config"]["Labels"]
        with Container(engine, image, "--network=host", env={"PORT": str(port)}) as container:
            container.becomes("healthy")
            assert json.loads(get(port, "/health")[1])["version"] == "9.8.7"
            assert re.search(r"build_info\{.*c0ffee", get(port, "/metrics")[1].decode())
        assert labels["org.opencontainers.image.version"] == "9.8.7"
        assert labels["org.opencontainers.image.revision"] == "c0ffee"
    finally:
        engine("rmi", image)


def test_sigterm_lets_a_request_in_flight_end(engine: Docker, images: Mapping[str, str], database_url: str) -> None:
    """The image's console tool makes the schema, the service serves. A request that is half sent at SIGTERM is taken
    to its end although nobody else gets in any more; then the container ends, with 0, in its time.
    """
    port = free_port()
    env = {"PORT": str(port), "DATABASE_URL": database_url}
    env |= {"DRAIN_SECONDS": str(DRAIN_S), "STOP_TIMEOUT_SECONDS": str(GRACE_S)}
    variables = [f"--env={name}={value}" for name, value in env.items()]
    engine("run", "--rm", "--network=host", "--read-only", *variables, images["user"], "user-db", "create")
    body = b'{"username": "half.and.half", "email": "half@example.com"}'
    with Container(engine, images["user"], "--network=host", env=env) as container:
        container.becomes("healthy")
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=GRACE_S)) as connection:
            connection.putrequest("POST", "/api/v1/users")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:10])
            container.signal("TERM")
            wait_until(lambda: get(port, "/health/ready")[0] == 503, what="it says that it leaves")
            wait_until(lambda: get(port, "/health/ready")[0] == 0, what="nobody gets in")
            connection.send(body[10:])
            assert connection.getresponse().status == 201
        assert container.ended(timeout_s=GRACE_S) == 0


def test_what_is_left_of_googles_packages_keeps_pictures(
    engine: Docker, images: Mapping[str, str], database_url: str
) -> None:
    """Read-only and without any right, links makes a link and keeps its picture in a bucket; and it could sign in with
    every kind of credentials that Google's client finds by itself.
    """
    env = {"PORT": str(port := free_port()), "DATABASE_URL": database_url, "GCS_BUCKET": "pictures"}
    env |= {"DRAIN_SECONDS": "0.2", "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{(bucket_port := free_port())}"}
    bucket = create_server("127.0.0.1", bucket_port, in_memory=True, default_bucket="pictures")
    bucket.start()
    try:
        with Container(engine, images["links"], "--network=host", env=env) as container:
            container.run("links-db", "create")
            container.becomes("healthy")
            assert json.loads(get(port, "/health")[1])["gcs"] == "connected"
            new = ["python", "-c", POST, f"http://127.0.0.1:{port}/api/v1/links", '{"url": "https://example.com/"}']
            code = json.loads(container.run(*new))["code"]
            assert get(port, f"/qr/{code}.svg")[0] == get(port, f"/qr/{code}.svg")[0] == 200
            kept = re.findall(r'links_qr_total\{result="(\w+)"\} 1.0', get(port, "/metrics")[1].decode())
            assert sorted(kept) == ["drawn", "kept"]
            assert container.run("python", "-c", SIGN) == "signed"
    finally:
        bucket.stop()


def test_the_health_check_sees_a_service_that_hangs(engine: Docker, images: Mapping[str, str]) -> None:
    """Stopped workers make the container unhealthy, and it is healthy again when they go on."""
    with Container(engine, images["catalogue"], env={"PORT": "7000"}) as container:
        container.becomes("healthy")
        container.run("sh", "-c", "kill -STOP -1")
        container.becomes("unhealthy")
        container.run("sh", "-c", "kill -CONT -1")
        container.becomes("healthy")


@pytest.mark.parametrize("service", SERVICES)
def test_every_pin_has_a_wheel_for_arm64(docker: str, tmp_path: Path, service: str) -> None:
    """The other platform of docker-bake.hcl: each pin has a wheel for it, of a hash that is known."""
    command = ["sh", "scripts/uv.sh", "pip", "install", "--dry-run", "--quiet", "--target", str(tmp_path)]
    platform = ["--python-platform", "aarch64-manylinux_2_36", "--python-version", "3.11", "--only-binary", ":all:"]
    pins = ["--require-hashes", "-r", f"requirements/{service}.txt"]
    done = subprocess.run([*command, *platform, *pins], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own; status 0 if nobody listens."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
