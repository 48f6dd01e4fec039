"""`make audit` on copies of this tree's pins, with a vulnerability service of our own that answers as OSV does."""

import datetime
import http.server
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Audit = Callable[..., subprocess.CompletedProcess[str]]
TODAY = datetime.datetime.now(datetime.UTC).date()
CANNED: dict[str, Any] = {
    "vulns": [
        {
            "id": "GHSA-aaaa-bbbb-cccc",
            "aliases": ["CVE-2026-99999"],
            "summary": "Werkzeug lets anybody do\nanything",
            "affected": [
                {
                    "package": {"name": "werkzeug", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0.1"}]}],
                }
            ],
            "schema_version": "1.7.3",
        }
    ]
}


class Service(http.server.ThreadingHTTPServer):
    """Knows of one vulnerability, in the package `bad`; or answers everything with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bad: str | None = None
        self.status = 200
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet, so that nobody waits for the second
    server: Service

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert query["package"]["ecosystem"] == "PyPI"
        name = query["package"]["name"]
        self.server.asked.append((name, query["version"]))
        body = json.dumps(CANNED if name == self.server.bad else {}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    """A vulnerability service."""
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def tree(tmp_path: Path, root: Path) -> Path:
    """A copy of the pins."""
    for folder in ("requirements", "functions/redirect", "k8s/tools"):
        (tmp_path / folder).mkdir(parents=True)
        for path in [*(root / folder).glob("*.txt"), *(root / folder).glob("*.toml")]:
            shutil.copy(path, tmp_path / folder)
    return tmp_path


@pytest.fixture
def audit(tree: Path, root: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """Audit the copy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*words: str, url: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scripts.audit", str(tree), "--service-url", url or service.url, *words]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    return run


def accept(tree: Path, until: datetime.date, known_as: str = "CVE-2026-99999", package: str = "werkzeug") -> None:
    """Let it pass until that day."""
    text = (
        f'[[accepted]]\npackage = "{package}"\nid = "{known_as}"\nuntil = {until}\nreason = "We never do anything."\n'
    )
    (tree / "requirements/accepted.toml").write_text(text, "utf-8")


def test_every_pinned_version_is_asked_for(tree: Path, audit: Audit, service: Service) -> None:
    """Each line of each pin file, those for other platforms and other Pythons too, is asked for once."""
    done = audit()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"Audited \d+ pinned versions: no known vulnerability\.\n", done.stdout)
    files = [*(tree / "requirements").glob("*.txt"), *tree.glob("*/*/requirements.txt")]
    assert len(files) == 10
    lines = {line for path in files for line in re.findall(r"(?m)^([\w.-]+)==(\S+)", path.read_text("utf-8"))}
    assert len(lines) > 150
    assert {"pywin32", "async-timeout"} < {name for name, _ in lines}
    assert sorted(service.asked) == sorted(lines)


def test_a_vulnerable_pin_fails(audit: Audit, service: Service) -> None:
    """The line says which version of what, in which files, what it is called, and what mends it."""
    service.bad = "werkzeug"
    done = audit()
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert re.match(r"werkzeug==[\d.]+ \(functions/redirect/requirements\.txt, requirements/catalogue\.txt, ", line)
    assert line.endswith(": CVE-2026-99999 (GHSA-aaaa-bbbb-cccc), mended in 99.0.1: Werkzeug lets anybody do anything")


@pytest.mark.parametrize("known_as", ["GHSA-aaaa-bbbb-cccc", "CVE-2026-99999"])
def test_an_accepted_one_passes_for_a_while(tree: Path, audit: Audit, service: Service, known_as: str) -> None:
    """By any of its names it passes until the end of its last day, and is still mentioned."""
    service.bad = "werkzeug"
    accept(tree, TODAY + datetime.timedelta(days=1), known_as)
    done = audit()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("no known vulnerability but 1 accepted, requirements/accepted.toml says why.\n")


def test_accepting_ends(tree: Path, audit: Audit, service: Service) -> None:
    """After its day it fails, whether the service is reached or not; and no day is far away."""
    service.bad = "werkzeug"
    accept(tree, TODAY - datetime.timedelta(days=1))
    for url in (service.url, closed_url()):
        done = audit(url=url)
        assert done.returncode == 1
        assert "CVE-2026-99999 of werkzeug was accepted until" in done.stderr
    accept(tree, TODAY + datetime.timedelta(days=400))
    done = audit()
    assert done.returncode == 1
    assert "is accepted for more than" in done.stderr


def test_another_packages_or_another_vulnerability_is_not_accepted(tree: Path, audit: Audit, service: Service) -> None:
    """What passes is one vulnerability of one package. One that is accepted and not there has to go."""
    service.bad = "werkzeug"
    for wrong in ({"package": "flask"}, {"known_as": "CVE-2026-99998"}):
        accept(tree, TODAY + datetime.timedelta(days=9), **wrong)
        done = audit()
        assert done.returncode == 1
        assert ": CVE-2026-99999 (GHSA-aaaa-bbbb-cccc), " in done.stderr
        assert "is not found any more: take it out" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '[[accepted]]\npackage = "werkzeug"\nid = "X"\nuntil = 2099-01-01\n',
        '[[accepted]]\npackage = "werkzeug"\nid = "X"\nreason = "A reason without a day"\n',
        '[[acepted]]\npackage = "werkzeug"\n',
        "[[accepted",
    ],
)
def test_a_bad_list_of_accepted_ones_fails(tree: Path, audit: Audit, text: str) -> None:
    """Without a reason or a day nothing is accepted, and a slip in the file is no way round."""
    (tree / "requirements/accepted.toml").write_text(text, "utf-8")
    done = audit()
    assert done.returncode == 1
    assert done.stderr.startswith("requirements/accepted.toml: ")


def closed_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1/query"


def test_without_the_service_it_passes_and_says_so(audit: Audit) -> None:
    """The words are not those of an audit; with --online it is an error."""
    for words, status in ((), 0), (("--online",), 1):
        done = audit(*words, url=closed_url())
        assert (done.returncode, done.stderr) == (status, "")
        assert re.fullmatch(
            r"NOT AUDITED: the vulnerability service was not reached \(ConnectionError\)\. "
            r"Nothing is known of \d+ pinned versions; run `make audit` where it is\.\n",
            done.stdout,
        )


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_service_that_refuses_is_not_reached(audit: Audit, service: Service, status: int) -> None:
    """A proxy that lets nobody out, and a service that has enough, tell nothing."""
    service.status = status
    done = audit()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("NOT AUDITED: ")


def test_a_service_that_is_too_slow_is_not_reached(audit: Audit, service: Service) -> None:
    """All the questions together have a limit. What was answered before it is no audit."""
    done = audit("--limit-s", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("NOT AUDITED: the vulnerability service was not reached (too slow). ")
    assert service.asked == []


def test_a_bad_pin_file_fails(tree: Path, audit: Audit) -> None:
    """What cannot be read is not passed over."""
    (tree / "requirements/more.txt").write_text("flask>=3\n", "utf-8")
    done = audit()
    assert done.returncode == 1
    assert "requirements/more.txt: 'flask>=3' is not pinned to one version" in done.stderr
