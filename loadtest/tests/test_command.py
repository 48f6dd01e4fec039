"""How a command that measures ends, and where it writes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

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


def test_a_look_is_never_written_over_a_result(tmp_path: Path) -> None:
    """Day, commit and kind name a result; a part of one and a quick one have other names."""
    record = {"taken_at": "2026-11-27T10:00:00+00:00", "commit": "0123456789", "quick": False, "complete": True}
    directory = tmp_path / "results"
    assert command.result_path(record, directory) == directory / "2026-11-27-0123456789.json"
    assert command.result_path(record, directory, kind="sizing").name == "2026-11-27-0123456789-sizing.json"
    looks = {command.result_path(record | less, directory).name for less in ({"quick": True}, {"complete": False})}
    assert looks == {"2026-11-27-0123456789-quick.json", "2026-11-27-0123456789-part.json"}
    assert directory.is_dir()
