"""The storefront as docker-compose.yml runs it, brought up once: a shopper's journey, outages, secrets, walls."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import pytest

from chassis.testing import wait_until
from tests.containers.project import ComposeFailed, Project, run

pytestmark = pytest.mark.containers

SERVICES = {"gateway": 10001, "catalogue": 10001, "user": 10001, "links": 10001}
READER = ("docker", "run", "--rm", "--network=none")
JSON = {"Content-Type": "application/json"}
FOUND_IN_REDIS = """
import pathlib, redis
print(redis.Redis.from_url(pathlib.Path("/app/secrets/redis_url").read_text()).scan(0, "*crane*", 10000))
"""


class Answer(NamedTuple):
    """What the gateway answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Shop:
    """The storefront from outside, and the project behind it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.admin_key = project.execute("gateway", "cat", "/app/admin/key")

    def ask(self, path: str, *, method: str = "GET", new: Any = None, key: bool = False, **fields: str) -> Answer:
        """One request to the gateway's published port; `key` sends the admin's."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        headers |= {"X-API-Key": self.admin_key} if key else {}
        headers |= JSON if new is not None else {}
        body = json.dumps(new) if new is not None else None
        port = self.project.gateway_port
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as connection:
            connection.request("POST" if new is not None and method == "GET" else method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def answers(self, path: str, status: int) -> bool:
        """Whether the gateway answers so by now; also while nobody listens."""
        try:
            return self.ask(path, key=True).status == status
        except OSError:
            return False


@pytest.fixture(scope="module")
def shop(images: Mapping[str, str]) -> Iterator[Shop]:
    """Everything that has an image on this machine, healthy. What is left of it is removed in the end."""
    project = Project(f"storefront-test-{os.getpid()}")
    try:
        project.up()
        yield Shop(project)
    except BaseException:
        with contextlib.suppress(ComposeFailed):
            print(project.compose("logs", "--no-color", "--tail", "30"))  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        project.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def test_a_shopper_finds_products_with_pictures(shop: Shop) -> None:
    """The home page, the products from PostgreSQL, one product, its picture; asked for again, it is not modified."""
    assert b"Paper Crane" in shop.ask("/").body
    products = shop.ask("/api/products?sort=-price")
    assert products.status == 200
    assert products.headers["X-Data-Source"] == "db"
    assert len(products.json) > 10
    product = shop.ask(f"/api/products/{products.json[0]['id']}")
    assert product.json == products.json[0]
    picture = shop.ask(product.json["image_url"])
    assert picture.status == 200
    assert picture.headers["Content-Type"].startswith("image/")
    again = shop.ask(f"/api/products/{product.json['id']}", If_None_Match=product.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def test_a_shopper_signs_up_and_an_operator_sees_it(shop: Shop) -> None:
    """Sign-up is open, sent twice it makes one account; the list of users needs the key."""
    new = {"username": "ada", "email": "ada@example.com"}
    first = shop.ask("/api/v1/users", new=new, Idempotency_Key="once")
    assert first.status == 201
    second = shop.ask("/api/v1/users", new=new, Idempotency_Key="once")
    assert (second.status, second.headers["Idempotency-Replayed"]) == (201, "true")
    assert shop.ask("/api/v1/users").status == 401
    users = shop.ask("/api/v1/users?per_page=100&page=2", key=True)
    assert users.json["total"] == 101, "a hundred are there from the start"
    assert "ada" in [user["username"] for user in users.json["users"]]
    assert shop.ask("/api/v1/users?per_page=100&page=2", key=True).headers["X-Cache"] == "HIT"


def test_visitors_come_when_they_are_asked_for(shop: Shop, load_image: str) -> None:
    """The profile `load`: a master and a worker, which find each other, the gateway and a key. Nothing that they ask
    for fails; stopped early the master judges what there was, leaves its reports, and the worker ends with it.
    """
    project = shop.project
    project.compose("--profile", "load", "up", "-d", "--no-build", "load-worker")
    seen = partial(project.compose, "--profile", "load", "logs", "--no-color", "load-master")
    wait_until(lambda: seen().count(" requests/s ") >= 3, timeout_s=120, interval_s=1)
    master = project.containers()["load-master"]["Id"]
    run("docker", "stop", "--time", "60", master)
    said = seen()
    assert "/api/products" in said
    assert "failures:" not in said, said
    assert "report:   /results/report.html" in said
    wait_until(lambda: project.containers()["load-worker"]["State"]["Status"] == "exited", timeout_s=60, interval_s=0.5)
    assert run("docker", "cp", f"{master}:/results/load.json", "-").startswith("load.json")
    run("docker", "rm", "--force", *(project.containers()[name]["Id"] for name in ("load-master", "load-worker")))


def test_a_short_link_leads_and_counts(shop: Shop) -> None:
    """Made with the key, followed by anybody, who is counted; its QR code is kept in the volume."""
    new = {"url": "https://example.com/a/long/way", "code": "crane"}
    assert shop.ask("/api/v1/links", new=new).status == 401
    made = shop.ask("/api/v1/links", new=new, key=True)
    assert made.status == 201
    assert made.json["short_url"] == f"http://localhost:{shop.project.gateway_port}/s/crane"
    followed = shop.ask("/s/crane")
    assert (followed.status, followed.headers["Location"]) == (302, new["url"])
    picture = shop.ask("/qr/crane.svg")
    assert (picture.status, picture.headers.get_content_type()) == (200, "image/svg+xml")
    assert ".svg" in shop.project.execute("links", "ls", "/app/qr")
    assert shop.ask("/api/v1/links/crane", key=True).json["clicks"] == 1
    keys = shop.project.execute("links", "python", "-c", FOUND_IN_REDIS)
    assert "crane" in keys, "Redis remembers where it leads"


def test_the_registry_takes_a_route(shop: Shop) -> None:
    """A route is written with the key and resolved; one to a store is refused."""
    place = {"tenant": "team-a", "service": "payments", "env": "prod", "version": "v2"}
    made = shop.ask("/api/v1/routes", new={**place, "url": "https://payments.example.com/v2"}, key=True)
    assert made.status == 201
    query = "&".join(f"{name}={value}" for name, value in place.items())
    assert shop.ask(f"/api/v1/routes/resolve?{query}", key=True).json["url"] == "https://payments.example.com/v2"
    inside = shop.ask("/api/v1/routes", new={**place, "version": "v3", "url": "http://postgres:5432"}, key=True)
    assert inside.status == 422
    assert shop.ask("/api/service-status").json == {"services": {"catalogue": "up", "user": "up", "links": "up"}}


def test_prometheus_sees_everything_that_runs(shop: Shop) -> None:
    """Every target whose container runs is up, and Alertmanager has the alert that always fires."""
    running = {name.removesuffix("-exporter") for name in shop.project.containers()} & {
        *SERVICES, "postgres", "redis", "prometheus", "alertmanager", "loki", "promtail", "grafana", "node", "blackbox",
    }  # fmt: skip
    assert running >= {*SERVICES, "postgres", "redis", "prometheus", "alertmanager"}
    wait_until(lambda: running <= _up(shop.project), timeout_s=60, interval_s=1, what=f"all of {running} are up")
    wait_until(lambda: "Watchdog" in _alerts(shop.project), timeout_s=60, interval_s=1, what="Watchdog is received")


def _up(project: Project) -> set[str]:
    answer = project.execute(
        "prometheus", "promtool", "query", "instant", "-o", "json", "http://127.0.0.1:9090", "up == 1"
    )
    return {each["metric"]["job"] for each in json.loads(answer)}


def _alerts(project: Project) -> str:
    return project.execute("alertmanager", "amtool", "--alertmanager.url=http://127.0.0.1:9093", "alert", "query")


def test_exporters_reach_their_stores(shop: Shop) -> None:
    """With roles of their own, which may look and nothing else."""
    for service, metric in (("postgres", "pg_up"), ("redis", "redis_up")):
        answer = shop.project.execute(
            "prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", f'{metric}{{job="{service}"}}'
        )
        assert "=> 1 @" in answer


def test_nobody_knows_anothers_secret(shop: Shop) -> None:
    """Each file belongs to its reader and to nobody else, and no secret is in what Docker tells of a container or in
    what a container has said.
    """
    containers = shop.project.containers()
    volume = f"{shop.project.name}_secrets"
    image = containers["redis"]["Config"]["Image"]
    everything = ("sh", "-c", "cat /kept/* | fold -w 48")
    kept = run(*READER, "-v", f"{volume}:/kept:ro", image, *everything).split()
    assert len(kept) > 8
    assert len(kept) == len(set(kept))
    told = json.dumps(containers) + shop.project.compose("logs", "--no-color")
    assert not [secret for secret in (*kept, shop.admin_key) if secret in told]
    for service, uid in SERVICES.items():
        listed = shop.project.execute(service, "stat", "-c", "%u %a %n", "/app/secrets/db_password")
        assert listed.split()[:2] == [str(uid), "400"]
    with pytest.raises(ComposeFailed, match="Read-only file system"):
        shop.project.execute("redis", "sh", "-c", "echo >/secrets/users.acl")


def test_a_container_can_do_nothing_but_its_work(shop: Shop) -> None:
    """Services run as nobody in particular, cannot write to their image, and reach their stores and no internet."""
    for service, uid in SERVICES.items():
        assert shop.project.execute(service, "id", "-u").strip() == str(uid)
        with pytest.raises(ComposeFailed, match="Read-only file system"):
            shop.project.execute(service, "sh", "-c", "echo >/app/it")
    connect = "import socket; socket.create_connection(({!r}, {}), 3)"
    shop.project.execute("catalogue", "python", "-c", connect.format("postgres", 5432))
    with pytest.raises(ComposeFailed, match=r"unreachable|timed out"):
        shop.project.execute("catalogue", "python", "-c", connect.format("198.51.100.1", 80))


def test_log_lines_say_whose_they_are(shop: Shop) -> None:
    """Docker's own files have each line with the service's name, which is how it is found without Docker's socket."""
    shop.ask("/api/products?q=logged")
    container = shop.project.containers()["gateway"]
    folder = container["LogPath"].rpartition("/")[0]
    image = shop.project.containers()["redis"]["Config"]["Image"]
    reader = (*READER, "--cap-drop=ALL", "-v", f"{folder}:/logs:ro", image)
    lines = [json.loads(line) for line in run(*reader, "sh", "-c", "cat /logs/*-json.log").splitlines()]
    assert {line["attrs"]["tag"] for line in lines} == {f"storefront/gateway/{container['Name'].lstrip('/')}"}
    requests = [json.loads(line["log"]) for line in lines if '"GET /api/products HTTP/1.1\\" 200' in line["log"]]
    assert requests
    assert requests[-1]["service"] == "gateway"


def test_the_shop_goes_on_without_postgresql(shop: Shop) -> None:
    """Stopped, products come from the file; started, they come from the database again within seconds."""

    def source(number: int) -> str | None:
        answer = shop.ask(f"/api/products?per_page={number}", Cache_Control="no-cache")
        assert answer.status == 200
        return answer.headers["X-Data-Source"]

    shop.project.compose("stop", "postgres")
    wait_until(lambda: source(1) == "json-fallback", timeout_s=10, what="the file answers")
    assert shop.ask("/health/ready").status == 200
    assert shop.ask("/api/v1/users", new={"username": "bob", "email": "bob@example.com"}).status == 503
    shop.project.compose("start", "postgres")
    wait_until(lambda: source(2) == "db", timeout_s=15, what="the database answers again")
    wait_until(lambda: shop.answers("/api/v1/users?per_page=1", 200), what="users are there again")


def test_what_was_acknowledged_outlives_a_kill(shop: Shop) -> None:
    """All of it killed at once and brought up again: the same secrets, the same users, links, clicks and routes."""
    new = {"username": "eve", "email": "eve@example.com"}
    wait_until(
        lambda: shop.ask("/api/v1/users", new=new, Idempotency_Key="eve").status == 201,
        timeout_s=15,
        what="whichever worker is asked has PostgreSQL again",
    )
    shop.project.compose("kill", *SERVICES, "postgres", "redis")
    shop.project.up()
    assert shop.project.execute("gateway", "cat", "/app/admin/key") == shop.admin_key
    wait_until(lambda: shop.answers("/api/v1/users?username=eve", 200), timeout_s=15, what="users are there again")
    assert shop.ask("/api/v1/users", new=new, Idempotency_Key="eve").headers["Idempotency-Replayed"] == "true"
    wait_until(lambda: shop.answers("/api/v1/routes?tenant=team-a", 200), timeout_s=15, what="and routes")
    routes = shop.ask("/api/v1/routes?tenant=team-a", key=True).json
    assert "https://payments.example.com/v2" in json.dumps(routes)
    wait_until(lambda: shop.answers("/api/v1/links/crane", 200), timeout_s=15, what="and links")
    assert shop.ask("/api/v1/links/crane", key=True).json["clicks"] == 1
    assert shop.ask("/s/crane").status == 302
    assert shop.ask("/api/products?per_page=1").headers["X-Total-Count"] == "16"


def test_a_stop_is_clean(shop: Shop) -> None:
    """Everything ends when it is asked to and nothing has to be killed, services and stores with status 0; and then
    nothing is left.
    """
    shop.project.compose("stop")
    ended = {name: each["State"]["ExitCode"] for name, each in shop.project.containers().items()}
    assert 137 not in ended.values(), ended
    assert {name: ended[name] for name in (*SERVICES, "postgres", "redis") if ended[name]} == {}
    shop.project.compose("down", "--volumes")
    assert shop.project.left_overs() == []
