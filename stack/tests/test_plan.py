"""What runs, where, and with which environment."""

import socket
from pathlib import Path

import pytest

from stack.plan import TOOLS, Plan, StackError, check_ports, environment_of, make_plan


def _plan(**environment: str) -> Plan:
    return make_plan(Path("/somewhere/.run"), environment)


def test_the_ports_of_the_contract() -> None:
    """Without variables they are these; `X_PORT` moves X."""
    ports = {"gateway": 8000, "catalogue": 5000, "user": 5001, "links": 5002}
    assert _plan().ports == ports
    assert _plan(GATEWAY_PORT="9000", USER_PORT="").ports == {**ports, "gateway": 9000}


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "\uff15\uff10"])
def test_a_bad_port_is_named(port: str) -> None:
    """The error names the variable, what it got and what it wants."""
    with pytest.raises(StackError, match=f"USER_PORT: got '{port}', want a port"):
        _plan(USER_PORT=port)


def test_a_port_given_twice_is_named() -> None:
    """Two services cannot share a port."""
    with pytest.raises(StackError, match="USER_PORT: got 5000, which another service has"):
        _plan(USER_PORT="5000")


def test_a_taken_port_is_named() -> None:
    """The error names port, service, and the variable that moves it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} \(gateway\) is taken: .*GATEWAY_PORT="):
            check_ports(_plan(GATEWAY_PORT=str(port)))


def test_what_the_user_has_set_passes_through() -> None:
    """Our defaults give way to the user's variables; an empty one is as good as none."""
    user = _plan(LOG_FORMAT="json", DATA_SOURCE="db", WEB_CONCURRENCY="", SOMETHING="else")
    found = environment_of("catalogue", user, {}, admin_key=Path("/key"))
    assert (found["LOG_FORMAT"], found["DATA_SOURCE"], found["SOMETHING"]) == ("json", "db", "else")
    assert found["WEB_CONCURRENCY"] == "2"


def test_what_only_this_run_knows_is_fixed() -> None:
    """Each service has its own port, metrics and stores, whatever stands in the user's environment."""
    plan = _plan(PORT="1", METRICS_DIR="/tmp", DATABASE_URL="theirs")
    found = environment_of("user", plan, {"DATABASE_URL": "ours", "REDIS_URL": "redis"}, admin_key=Path("/key"))
    assert found["PORT"] == "5001"
    assert found["METRICS_DIR"] == "/somewhere/.run/metrics/user"
    assert (found["DATABASE_URL"], found["REDIS_URL"]) == ("ours", "redis")
    assert "GATEWAY_ADMIN_KEY_FILE" not in found


def test_the_gateway_knows_the_services() -> None:
    """The gateway is told where the others are, and where the admin key is; not the key."""
    found = environment_of("gateway", _plan(USER_PORT="7"), {}, admin_key=Path("/key"))
    assert found["CATALOGUE_URL"] == "http://127.0.0.1:5000"
    assert found["USER_URL"] == "http://127.0.0.1:7"
    assert found["LINKS_URL"] == "http://127.0.0.1:5002"
    assert found["GATEWAY_ADMIN_KEY_FILE"] == "/key"
    assert found["GATEWAY_STATE_DIR"] == "/somewhere/.run/gateway"


def test_links_know_where_shoppers_go() -> None:
    """Short links begin with the gateway's address, unless the user has a better one."""
    found = environment_of("links", _plan(GATEWAY_PORT="9"), {}, admin_key=Path("/key"))
    assert (found["PUBLIC_URL"], found["QR_DIR"]) == ("http://127.0.0.1:9", "/somewhere/.run/qr")
    named = _plan(PUBLIC_URL="https://shop.example")
    assert environment_of("links", named, {}, admin_key=Path("/key"))["PUBLIC_URL"] == "https://shop.example"


def test_the_redirect_function_runs_if_it_has_a_port() -> None:
    """With REDIRECT_PORT it is one of what runs, and the links service sends people there; else there is none."""
    with_it = _plan(REDIRECT_PORT="8081")
    assert [service.name for service in with_it.services][-1] == "redirect"
    found = environment_of("links", with_it, {}, admin_key=Path("/key"))
    assert (found["USE_CLOUD_FUNCTION_REDIRECT"], found["CLOUD_FUNCTION_URL"]) == ("true", "http://127.0.0.1:8081")
    assert "redirect" not in _plan().ports
    assert "CLOUD_FUNCTION_URL" not in environment_of("links", _plan(), {}, admin_key=Path("/key"))


def test_where_routes_may_lead() -> None:
    """To this machine and to the names of examples, unless the user says otherwise."""
    assert "*.example.com" in environment_of("gateway", _plan(), {}, admin_key=Path("/k"))["GATEWAY_ALLOWED_UPSTREAMS"]
    plan = _plan(GATEWAY_ALLOWED_UPSTREAMS="10.0.0.0/8")
    assert environment_of("gateway", plan, {}, admin_key=Path("/k"))["GATEWAY_ALLOWED_UPSTREAMS"] == "10.0.0.0/8"
    assert "GATEWAY_ALLOWED_UPSTREAMS" not in environment_of("user", _plan(), {}, admin_key=Path("/k"))


def test_the_registrys_tool_fills_nothing() -> None:
    """The gateway's database has a schema to be made, and what is in it is made with it."""
    tool = next(tool for tool in TOOLS if tool.service == "gateway")
    assert (tool.name, tool.database, tool.table) == ("gateway-db", "gateway", None)
    assert _plan().needs_schema("gateway")
