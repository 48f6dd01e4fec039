"""Stand-ins for the services, so that the supervisor is tested without them."""

import os
import sys
from pathlib import Path

import pytest

_CONF = """
import os
bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 2
control_socket_disable = True
"""
_APP = """
import json, os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [json.dumps(dict(os.environ)).encode()]
"""
_TOOL = """
import os, sys, psycopg2
def main():
    table = "products" if __name__.startswith("catalogue") else "users"
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        if sys.argv[1] == "create":
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (id bigserial)")
        else:
            cursor.execute(f"INSERT INTO {table} SELECT FROM generate_series(1, 3)")
    connection.close()
    print(*sys.argv[1:])
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH in which gateway, catalogue and user answer every request with their environment."""
    directory = tmp_path / "stand-ins"
    for service, module in (("gateway", "asgi"), ("catalogue", "wsgi"), ("user", "wsgi")):
        package = directory / service
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "gunicorn_conf.py").write_text(_CONF)
        (package / f"{module}.py").write_text(_APP)
        (package / "db.py").write_text(_TOOL)
    return directory


@pytest.fixture
def environment(free_ports: dict[str, str]) -> dict[str, str]:
    """What `make run` finds in a bare shell, with free ports."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        **free_ports,
    }


@pytest.fixture
def free_ports() -> dict[str, str]:
    """The port variables, each with a port on which nothing listens."""
    from chassis.testing import free_port

    return {f"{service}_PORT": str(free_port()) for service in ("GATEWAY", "CATALOGUE", "USER")}
