"""What `make observe` starts: Prometheus, Alertmanager, and the exporters that are installed."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stack.plan import HOST, StackError

REMEDY = "apt-get install prometheus prometheus-alertmanager"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Command:
    """A process to start; one with a `url` is for people. What is secret stands in `environment` alone."""

    name: str
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    url: str = ""


@dataclass(frozen=True)
class Exporter:
    """Makes metrics of something that has none. `package` is Debian's name for it, and for its binary."""

    job: str
    package: str
    binary: str
    address: str


EXPORTERS = (
    Exporter("postgres", "prometheus-postgres-exporter", "postgres_exporter", "postgres-exporter:9187"),
    Exporter("redis", "prometheus-redis-exporter", "redis_exporter", "redis-exporter:9121"),
    Exporter("node", "prometheus-node-exporter", "node_exporter", "node-exporter:9100"),
    Exporter("blackbox", "prometheus-blackbox-exporter", "blackbox_exporter", "blackbox-exporter:9115"),
)


def find(*names: str, path: str | None = None) -> str | None:
    """The first of these programs that is installed: Debian calls some by another name than their makers do."""
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def prometheus(config: Path, data: Path, *, port: int, path: str | None = None) -> Command:
    """Prometheus. Raises StackError if it is not installed."""
    binary = find("prometheus", path=path)
    if binary is None:
        raise StackError(f"`prometheus` is not installed: {REMEDY}")
    arguments = [binary, f"--config.file={config}", f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=7d"]
    # What fires in the first seconds is lost, as Alertmanager has not been discovered by then: say it again soon.
    arguments.append("--rules.alert.resend-delay=10s")
    return _served("prometheus", arguments, port)


def alertmanager(config: Path, data: Path, *, port: int, path: str | None = None) -> Command:
    """Alertmanager, of a cluster of one. Raises StackError if it is not installed."""
    binary = find("prometheus-alertmanager", "alertmanager", path=path)
    if binary is None:
        raise StackError(f"`prometheus-alertmanager` is not installed: {REMEDY}")
    arguments = [binary, f"--config.file={config}", f"--storage.path={data}", "--cluster.listen-address="]
    return _served("alertmanager", arguments, port)


def _served(name: str, arguments: list[str], port: int) -> Command:
    """Alerts link to the address by which people come, not to the name of this machine."""
    url = f"http://{HOST}:{port}"
    more = [f"--web.listen-address={HOST}:{port}", f"--web.external-url={url}", "--log.level=warn"]
    return Command(name, [*arguments, *more], url=url)


def exporter(which: Exporter, binary: str, *, port: int, urls: Mapping[str, str], blackbox: Path) -> Command:
    """An exporter on `port`.

    Args:
        urls: `DATABASE_URL` and `REDIS_URL` of the run.
        blackbox: the configuration of the blackbox exporter.
    """
    listen = f"--web.listen-address={HOST}:{port}"
    if which.job == "postgres":
        source = {"DATA_SOURCE_NAME": _with_sslmode(urls["DATABASE_URL"])}
        return Command(which.job, [binary, listen, "--log.level=warn"], source)
    if which.job == "redis":
        return Command(which.job, [binary, listen.removeprefix("-")], _redis(urls["REDIS_URL"]))
    config = [f"--config.file={blackbox}"] if which.job == "blackbox" else []
    return Command(which.job, [binary, listen, *config, "--log.level=warn"])


def environment_for(command: Command) -> dict[str, str]:
    """What the process gets: nothing of ours but a path, for none of it needs our secrets, and its own."""
    return {"PATH": os.environ.get("PATH", os.defpath), **command.environment}


def _with_sslmode(url: str) -> str:
    """The exporter's driver wants TLS unless told otherwise; libpq takes what there is."""
    parts = urlsplit(url)
    if "sslmode=" in parts.query or parts.hostname not in _LOOPBACK:
        return url
    return parts._replace(query="&".join(filter(None, [parts.query, "sslmode=disable"]))).geturl()


def _redis(url: str) -> dict[str, str]:
    """Address and password apart, as the exporter's `redis_up` and its log may show the address."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
    found = {"REDIS_ADDR": address, "REDIS_USER": parts.username or "", "REDIS_PASSWORD": unquote(parts.password or "")}
    return {name: value for name, value in found.items() if value}
