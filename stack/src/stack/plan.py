"""What `make run` runs: the services, their ports, their environment. Nothing is started here."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.children import port_is_free

HOST = "127.0.0.1"
ALLOWED_UPSTREAMS = "localhost,127.0.0.0/8,::1/128,*.example.com"
"""What the gateway takes by itself, and the names that examples are made with: they lead nowhere."""


class StackError(RuntimeError):
    """The stack cannot run; the message is one line that says what to do, `details` are for below it."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Service:
    """A service under gunicorn."""

    name: str
    default_port: int
    colour: str
    application: str = "wsgi:app"

    @property
    def port_variable(self) -> str:
        """The variable that sets the port."""
        return f"{self.name.upper()}_PORT"

    def command(self) -> list[str]:
        """The command line of the service."""
        module = f"{self.name}.{self.application}"
        return [sys.executable, "-m", "gunicorn", "-c", f"python:{self.name}.gunicorn_conf", module]


@dataclass(frozen=True)
class Function(Service):
    """The redirect function under functions-framework. It runs if its port is given."""

    def command(self) -> list[str]:
        """The command line of the function."""
        source = Path(__file__).resolve().parents[3] / "functions" / self.name / "main.py"
        program = Path(sys.executable).with_name("functions-framework")
        return [str(program), "--source", str(source), "--target", self.name, "--host", HOST]


SERVICES = (
    Service("gateway", 8000, "green", application="asgi:app"),
    Service("catalogue", 5000, "cyan"),
    Service("user", 5001, "magenta"),
    Service("links", 5002, "blue"),
)
FUNCTION = Function("redirect", 8081, "yellow")


@dataclass(frozen=True)
class Tool:
    """A service's console tool `<service>-db`: it makes the schema with `create`, and fills `table` if it is empty."""

    service: str
    database: str
    table: str | None = None
    fill: tuple[str, ...] = ()
    create: tuple[str, ...] = ("create",)

    @property
    def name(self) -> str:
        """The name of the console script."""
        return f"{self.service}-db"

    def command(self, *arguments: str) -> list[str]:
        """The command line; by the module, as the script may not be on the path."""
        return [sys.executable, "-c", f"from {self.service}.db import main; raise SystemExit(main())", *arguments]


TOOLS = (
    Tool("gateway", database="gateway"),
    Tool("catalogue", database="catalogue", table="products", fill=("import",)),
    Tool("user", database="users", table="users", fill=("seed", "--count", "1000")),
    Tool("links", database="links"),
)


@dataclass(frozen=True)
class Plan:
    """One run: where its state is kept, on which ports, and what the user has set."""

    directory: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str] = field(repr=False)

    @property
    def services(self) -> tuple[Service, ...]:
        """What runs."""
        return (*SERVICES, FUNCTION) if FUNCTION.name in self.ports else SERVICES

    @property
    def url(self) -> str:
        """Where shoppers go."""
        return self.url_of("gateway")

    def url_of(self, service: str) -> str:
        """The address of a service."""
        return f"http://{HOST}:{self.ports[service]}"

    def needs_schema(self, service: str) -> bool:
        """Whether a service is of no use before its tables are there; the others start beside the tools."""
        return service in ("gateway", "user", "links") or (service == "catalogue" and self.given("DATA_SOURCE") == "db")

    def given(self, variable: str) -> str | None:
        """What the user has set, None if nothing or empty."""
        return self.environment.get(variable) or None


def make_plan(directory: Path, environment: Mapping[str, str]) -> Plan:
    """The plan for these variables. Raises StackError for a port that is none, or is given twice."""
    ports: dict[str, int] = {}
    for service in (*SERVICES, FUNCTION) if environment.get(FUNCTION.port_variable) else SERVICES:
        port = port_of(service.port_variable, service.default_port, environment)
        if port in ports.values():
            raise StackError(f"{service.port_variable}: got {port}, which another service has; want a port of its own")
        ports[service.name] = port
    return Plan(directory=directory, ports=ports, environment=environment)


def port_of(variable: str, default: int, environment: Mapping[str, str]) -> int:
    """The port that a variable sets. Raises StackError if that is none."""
    text = environment.get(variable) or str(default)
    port = int(text) if text.isascii() and text.isdecimal() else 0
    if not 0 < port < 65536:
        raise StackError(f"{variable}: got {text!r}, want a port, 1 to 65535")
    return port


def check_ports(plan: Plan) -> None:
    """Raise StackError that names the first port on which somebody else listens."""
    for service in plan.services:
        check_port(service.name, plan.ports[service.name], service.port_variable, verb="run")


def check_port(name: str, port: int, variable: str, *, verb: str) -> None:
    """Raise StackError if somebody listens on the port that `make <verb>` needs for `name`."""
    if not port_is_free(port, host=HOST):
        raise StackError(
            f"port {port} ({name}) is taken: free it, or choose another, as in {variable}={port + 10} make {verb}"
        )


def environment_of(service: str, plan: Plan, stores: Mapping[str, str], *, admin_key: Path) -> dict[str, str]:
    """The environment of a service: what the user has set, beaten only where this run knows better.

    `stores` are the URLs of the stores, `admin_key` is the file of the gateway's admin key.
    """
    defaults = {
        "LOG_FORMAT": "text",
        "WEB_CONCURRENCY": "2",
        "DRAIN_SECONDS": "0",  # no balancer to be told, and Ctrl-C should be quick
        "STOP_TIMEOUT_SECONDS": "4",
        "PATH": os.defpath,
    }
    fixed = {
        "PORT": str(plan.ports[service]),
        "METRICS_DIR": str(plan.directory / "metrics" / service),
        **stores,
        "PYTHONUNBUFFERED": "1",
    }
    if service == "gateway":
        fixed |= {
            "CATALOGUE_URL": plan.url_of("catalogue"),
            "USER_URL": plan.url_of("user"),
            "LINKS_URL": plan.url_of("links"),
            "GATEWAY_ADMIN_KEY_FILE": str(admin_key),
            "GATEWAY_STATE_DIR": str(plan.directory / "gateway"),
        }
        defaults["GATEWAY_ALLOWED_UPSTREAMS"] = ALLOWED_UPSTREAMS
    if service == "links":
        defaults |= {"PUBLIC_URL": plan.url, "QR_DIR": str(plan.directory / "qr")}
        if FUNCTION.name in plan.ports:
            fixed |= {"USE_CLOUD_FUNCTION_REDIRECT": "true", "CLOUD_FUNCTION_URL": plan.url_of(FUNCTION.name)}
    set_by_user = {name: value for name, value in plan.environment.items() if value}
    return {**defaults, **set_by_user, **fixed}
