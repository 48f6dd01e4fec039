"""How a command that measures ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from loadtest import command
from loadtest.errors import BenchError


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """The handler of SIGTERM is this process's again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_what_it_returns_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own if it gets through, else 2 and one line with the reason, in which brackets are no markup."""
    assert command.run("bench", lambda _: 1) == 1

    def fails(_: Console) -> int:
        raise BenchError("no [red] wrk")

    assert command.run("bench", fails) == 2
    assert "bench: no [red] wrk" in capsys.readouterr().out


def test_sigterm_ends_it_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    """What it has started is ended on the way out, and 130 says that nothing was written."""
    ended = []

    def interrupted(_: Console) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append(True)
        return 0

    assert command.run("evidence", interrupted) == 130
    assert ended == [True]
    assert "evidence: interrupted" in capsys.readouterr().out
