"""Docker as a node: pods of overlays/prod as containers, held to exactly what their manifests say.

The network is a part of TRUSTED_PROXIES, so whoever asks from this machine is taken for the proxy of the Gateway API.
Stores are where the settings say. Nothing of a pod is changed but where an emptyDir is: each is memory (tmpfs), and
counts as the pod's, whatever the manifest says of it.
"""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import json
import os
import random
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis.testing import wait_until
from loadtest.mix import USERS
from tests.containers.engine import Container, Docker
from tests.kubernetes.objects import SERVICES, Pod, environment, files, objects, secrets
from tests.kubernetes.pod_container import PodContainer, options, quantity
from tests.kubernetes.settings import write
from tests.kubernetes.tools import ROOT

PRODUCTS = 120
"""A page of a hundred has some weight then, and a search something to do."""
_POSTGRES_ENV = {"POSTGRES_PASSWORD_FILE": "/secrets/superuser", "PGDATA": "/var/lib/postgresql/18/docker"}
_POSTGRES = ("postgres", "-c", "shared_buffers=128MB", "-c", "max_connections=300")


@dataclass(frozen=True, kw_only=True)
class Place:
    """How a pod's processors are given out here, beside its limits."""

    cpuset: str = ""
    """The cores it may use; "": any."""
    limited: bool = True
    """False for what stands behind a pod that is measured: it has as much as it wants."""


class Node:
    """A network with stores, schemas and some data, and the pods that are started in it. A context manager.

    Args:
        images: service → its image, which is tagged as the manifests say.
        others: where what is no service runs.
    """

    def __init__(self, docker: Docker, *, others: Place | None = None) -> None:
        self.docker = docker
        self.secret: dict[str, dict[str, str]] = secrets()
        self._others = others or Place()
        self._name = f"storefront-node-{uuid.uuid4().hex[:8]}"
        self._stack = ExitStack()
        self._directory = Path()

    @property
    def key(self) -> str:
        """A key that may do everything."""
        return self.secret["gateway-admin"]["key"]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storefront-node-")))
            self._directory.chmod(0o755)
            self._begin(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _begin(self, stack: ExitStack) -> None:
        subnet = f"10.244.{random.randint(100, 250)}.0/24"
        trusted = environment(objects("prod"), objects("prod").pod("gateway"))["TRUSTED_PROXIES"]
        assert ipaddress.ip_network(subnet).subnet_of(ipaddress.ip_network(trusted))  # type: ignore[arg-type]
        self.docker("network", "create", "--subnet", subnet, self._name)
        stack.callback(self.docker, "network", "rm", self._name)
        images = {name: each["image"] for name, each in _compose().items()}
        postgres = stack.enter_context(self._store(images["postgres"], "postgres", "postgres.example.com"))
        stack.enter_context(self._store(images["redis"], "redis"))
        self._prepare(postgres, images["postgres"])
        jobs = [stack.enter_context(self.run(f"{service}-migrate", overlay="prod/migrations")) for service in SERVICES]
        for job in jobs:
            assert job.ended(timeout_s=120) == 0, job.logs()
        (self._directory / "data").mkdir()
        (self._directory / "data" / "products.json").write_text(json.dumps(many_products()), "utf-8")
        filled = [
            self.run(
                "catalogue-migrate", f"--volume={self._directory / 'data'}:/data:ro", overlay="prod/migrations",
                command=["catalogue-db", "import", "/data/products.json"],
            ),
            self.run(
                "user-migrate", overlay="prod/migrations", command=["user-db", "seed", "--count", str(USERS)]
            ),
        ]  # fmt: skip
        for job in filled:
            with job:
                assert job.ended(timeout_s=120) == 0, job.logs()

    def run(
        self,
        name: str,
        *more: str,
        overlay: str = "prod",
        command: Sequence[str] = (),
        place: Place | None = None,
        memory: int | None = None,
    ) -> PodContainer:
        """Start the pod of a workload.

        Args:
            more: words of `docker run`.
            command: instead of the manifest's.
            memory: instead of the manifest's limit, bytes.
        """
        found = objects(overlay)
        pod = found.pod(name)
        root = self._directory / uuid.uuid4().hex[:8] / name
        given = files(found, pod, self.secret)
        write(given, root)
        _hand_over(root, given, group=pod.spec["securityContext"]["fsGroup"])
        words = [f"--network={self._name}", f"--network-alias={name}", *options(pod, root, memory=memory)]
        words += _processors(pod, place or Place())
        container = PodContainer(
            self.docker, pod.container["image"], *words, *more, env=environment(found, pod), always=(),
            command=command or pod.container.get("args", ()),
        )  # fmt: skip
        container.pod = pod
        return container

    def _store(self, image: str, name: str, *aliases: str) -> Container:
        directory = self._directory / name
        directory.mkdir()
        secret = self.secret["postgres-secrets" if name == "postgres" else "redis-secrets"]
        for key, text in secret.items():
            (directory / key).write_text(text, "utf-8")
        words = [f"--network={self._name}", f"--volume={directory}:/secrets:ro"]
        words += [f"--network-alias={alias}" for alias in (name, *aliases)]
        words += [f"--volume={ROOT / 'containers'}:/containers:ro"]
        if self._others.cpuset:
            words.append(f"--cpuset-cpus={self._others.cpuset}")
        env = _POSTGRES_ENV if name == "postgres" else {}
        command = _POSTGRES if name == "postgres" else ("redis-server", "/containers/redis.conf")
        return Container(self.docker, image, *words, env=env, always=(), command=command)

    def _prepare(self, postgres: Container, image: str) -> None:
        """Roles and databases, and a certificate: production asks for TLS."""
        ready = ("pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres")
        wait_until(
            lambda: _is_fine(lambda: postgres.run(*ready)), timeout_s=60, interval_s=0.2, what="PostgreSQL is up"
        )
        certificate, key = _certificate("postgres.example.com")
        for name, text in (("server.crt", certificate), ("server.key", key)):
            postgres.run(
                "sh", "-c", f'umask 077; printf %s "{text}" >"$PGDATA/{name}"; chown postgres "$PGDATA/{name}"'
            )
        postgres.run("psql", "-qU", "postgres", "-c", "ALTER SYSTEM SET ssl = on", "-c", "SELECT pg_reload_conf()")
        roles = self._directory / "roles"
        roles.mkdir()
        for role, password in self.secret["postgres-roles"].items():
            (roles / role).write_text(password, "utf-8")
        self.docker(
            "run", "--rm", f"--network={self._name}", f"--volume={roles}:/secrets:ro",
            f"--volume={ROOT / 'containers'}:/containers:ro", "--entrypoint=sh", image, "/containers/postgres-roles.sh",
        )  # fmt: skip


def many_products() -> list[dict[str, object]]:
    """The packaged products, again and again under other ids."""
    packaged = json.loads((ROOT / "services/catalogue/src/catalogue/data/products.json").read_text("utf-8"))
    again = itertools.islice(itertools.cycle(packaged), PRODUCTS)
    return [{**product, "id": id_, "name": f"{product['name']} {id_}"} for id_, product in enumerate(again, 1)]


def _processors(pod: Pod, place: Place) -> list[str]:
    words = [f"--cpus={quantity(pod.container['resources']['limits']['cpu']):g}"] if place.limited else []
    return words + ([f"--cpuset-cpus={place.cpuset}"] if place.cpuset else [])


def _hand_over(root: Path, given: Mapping[str, str], *, group: int) -> None:
    """Mode and group of mounted files as in a pod; where we may not give them to a group, for everybody to read."""
    for name in given:
        file = root / name.lstrip("/")
        if os.geteuid() == 0:
            os.chown(file, 0, group)
            file.chmod(0o440)
        else:
            file.chmod(0o444)


def _certificate(name: str) -> tuple[str, str]:
    """A certificate that nobody vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem).decode(), private.decode()


def _compose() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    return found


def _is_fine(ask: object) -> bool:
    try:
        ask()  # type: ignore[operator]
    except (AssertionError, subprocess.TimeoutExpired):
        return False
    return True
