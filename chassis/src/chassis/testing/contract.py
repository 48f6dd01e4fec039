"""Every status of an OpenAPI document is answered by a test, and the tests know no other.

A service's test module registers one case per documented status and makes two tests of them::

    statuses = StatusRecorder()

    @statuses.case("GET", "/api/products/{product_id}", 404)
    def _unknown_product(client): return client.get("/api/products/999")

    @pytest.mark.parametrize("case", statuses.cases, ids=str)
    def test_documented_status(case, request):
        assert statuses.faults(case, case.answer(request), document) == []

    def test_document_is_complete(...):
        assert statuses.difference(document) == ([], [])

Nothing passes between processes: the table is the module's own, so xdist may run the cases wherever it likes.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from chassis.openapi import URI_TOO_LONG


class Answered(Protocol):
    """What a case gives back: werkzeug's test responses are such."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, whatever the case of their names."""


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Case:
    """One documented status of one operation, and a function that provokes it, given these fixtures."""

    method: str
    path: str
    status: int
    provoke: Callable[..., Answered]
    fixtures: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"

    def answer(self, request: pytest.FixtureRequest) -> Answered:
        """Call the function with its fixtures."""
        return self.provoke(*(request.getfixturevalue(name) for name in self.fixtures))


class StatusRecorder:
    """The cases of one service."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def case(self, method: str, path: str, status: int) -> Callable[[F], F]:
        """Register the decorated function, whose parameters are fixtures, as what provokes `status`.

        `path` is written as in the document.
        """

        def register(provoke: F) -> F:
            self.cases.append(Case(method, path, status, provoke, tuple(inspect.signature(provoke).parameters)))
            return provoke

        return register

    def request(self, method: str, path: str, status: int, client: str, *, at: str = "", **options: Any) -> None:
        """Register one request as what provokes `status`.

        Args:
            client: the fixture with the test client that sends it.
            at: its address; by default `path` with 1 for whatever is in braces.
            options: further arguments for the client's `open`.
        """
        address = at or re.sub(r"\{[^}]*\}", "1", path)

        def send(sender: Any) -> Answered:
            answer: Answered = sender.open(address, method=method, **options)
            return answer

        self.cases.append(Case(method, path, status, send, (client,)))

    def difference(self, document: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The documented statuses without a case, and the cases that the document does not know.

        414 needs no case: the server answers it, not the service, and the chassis tests that once for all.
        """
        covered = {str(case) for case in self.cases}
        documented = {
            f"{method.upper()} {path} {status}"
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            for status in operation["responses"]
            if int(status) != URI_TOO_LONG
        }
        return sorted(documented - covered), sorted(covered - documented)

    def faults(self, case: Case, answer: Answered, document: Mapping[str, Any]) -> list[str]:
        """What is not as documented in `answer`: its status, its media type, the request's id."""
        found = []
        if answer.status_code != case.status:
            found.append(f"status {answer.status_code}")
        documented = document["paths"][case.path][case.method.lower()]["responses"][str(case.status)]
        media = answer.headers.get("Content-Type", "").partition(";")[0]
        wanted = {name.partition(";")[0] for name in documented.get("content", {})} or {""}
        if media not in wanted and "*/*" not in wanted:
            found.append(f"media type {media or 'none'}, documented: {', '.join(wanted)}")
        if not answer.headers.get("X-Request-ID"):
            found.append("no X-Request-ID")
        return found


def fuzz(url: str, *options: str, checks: str = "all") -> str:
    """Let schemathesis try the service at `url` against its own document, with all phases, and all checks or `checks`.

    Each time the same, so that what it finds is found where it was brought in; `FUZZ_SEED=7` tries other things.

    Args:
        options: further words for `schemathesis run`.

    Returns:
        schemathesis' report.

    Raises:
        AssertionError: with schemathesis' report.
    """
    seed = os.environ.get("FUZZ_SEED")
    with tempfile.TemporaryDirectory() as directory:  # schemathesis keeps notes where it runs
        result = subprocess.run(
            [
                _schemathesis(),
                "run",
                f"{url}/openapi.json",
                f"--checks={checks}",
                "--max-examples=40",
                "--no-color",
                *(("--seed", seed) if seed else ("--generation-deterministic",)),
                *options,
            ],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise AssertionError(f"{result.stdout}\n{result.stderr}")
    return result.stdout


def _schemathesis() -> str:
    """The program beside the interpreter that runs the tests, wherever `PATH` points."""
    return str(Path(sys.executable).with_name("schemathesis"))
