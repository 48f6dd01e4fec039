"""The services, started with what the manifests give them: what they answer to probes, and what to the world."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.testing import wait_until
from chassis.testing.calls import call
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn
from tests.kubernetes.objects import SERVICES, objects, secrets
from tests.kubernetes.running import given, module_of
from tests.kubernetes.test_migrations import run
from tests.kubernetes.test_objects import lets_in, public

pytestmark = pytest.mark.kubernetes

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
FOR_OTHERS = ("/metrics", "/status")


def started(
    service: str, overlay: str, *, directory: Path, gunicorn: StartGunicorn, database_url: str, redis_url: str
) -> GunicornProcess:
    """A service with the environment and the files of its pod. Its stores are those of the test, given in the place
    where the pod has them, and what is mounted in the pod is below `directory`.
    """
    env = given(
        service,
        overlay,
        root=directory / service,
        secret=secrets(),
        database_url=database_url,
        redis_url=redis_url,
    )
    assert run(service, database_url)[0] == 0
    return gunicorn(service, module=module_of(service), wait=True, **{**env, "DRAIN_SECONDS": "0"})


@pytest.mark.parametrize("overlay", ["dev", "prod"])
@pytest.mark.parametrize("service", SERVICES)
def test_every_probe_is_answered(
    service: str, overlay: str, tmp_path: Path, gunicorn: StartGunicorn, database_url: str, redis_url: str
) -> None:
    """With the configuration, the mounted files and the Secrets of its pod a service starts, and each probe's path is
    answered with 200. So is what Prometheus scrapes.
    """
    process = started(
        service, overlay, directory=tmp_path, gunicorn=gunicorn, database_url=database_url, redis_url=redis_url
    )
    container = objects(overlay).pod(service).container
    for path in {container[probe]["httpGet"]["path"] for probe in PROBES}:
        wait_until(lambda path=path: call(process, "GET", path).status == 200, what=path)  # type: ignore[misc]
    exposition = call(process, "GET", "/metrics")
    assert exposition.status == 200
    assert "app_uptime_seconds" in exposition.body
    assert list((tmp_path / service / "app" / "metrics").glob("*.db")), (
        "the metrics are where the pod has room for them"
    )


def test_nothing_internal_comes_out_of_what_the_route_lets_in(
    tmp_path: Path, gunicorn: StartGunicorn, database_url: str, redis_url: str
) -> None:
    """The gateway takes the controller for a neighbour and would show it everything. No spelling of a path that the
    route lets in makes it do so: dots, doubled or encoded slashes, cases.
    """
    process = started(
        "gateway", "prod", directory=tmp_path, gunicorn=gunicorn, database_url=database_url, redis_url=redis_url
    )
    shown = {path: str(call(process, "GET", path).body) for path in FOR_OTHERS}
    assert "gateway_" in shown["/metrics"]
    assert "<html" in shown["/status"]
    matches = public(objects("prod"))
    tried = 0
    for target in FOR_OTHERS:
        for _, prefix in matches:
            base = "" if prefix == "/" else prefix
            for spelling in (
                f"{base}/..{target}", f"{base}/../{target}", f"{base}/%2e%2e{target}", f"{base}/.%2e{target}",
                f"{base}/%2E%2E%2F{target[1:]}", f"{base}/..%2f{target[1:]}", f"{base}/..;{target}",
                f"{base}//..{target}",
                f"{base}{target}", f"{base}/{target}", f"{base}%2f..{target}", f"{base}/..\\{target[1:]}",
                f"{base}/x/../..{target}", f"{base}?{target}", f"{base}/./../{target[1:].upper()}",
            ):  # fmt: skip
                if not lets_in(matches, spelling.partition("?")[0]):
                    continue
                tried += 1
                answer = str(call(process, "GET", spelling, timeout_s=20).body)
                assert "gateway_upstream" not in answer, spelling
                assert "# TYPE" not in answer, spelling
                assert answer != shown["/status"], spelling
    assert tried > 100
