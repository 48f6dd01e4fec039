"""The start-up screen."""

from pathlib import Path

import pytest

from stack.plan import make_plan
from stack.screen import curl_lines, render
from stack.stores import Stores


@pytest.fixture
def screen(tmp_path: Path) -> str:
    """The screen of a run with ports of its own."""
    (tmp_path / "key").write_text("the-key")
    stores = Stores(
        [], {}, "redis://:secret@127.0.0.1:1/0", database_place="/data, port 2", redis_place="/cache, port 1"
    )
    plan = make_plan(tmp_path, {"GATEWAY_PORT": "8111", "USER_PORT": "5111"})
    return render(plan, stores, admin_key=tmp_path / "key", config=tmp_path / "con fig", seconds=1.23)


def test_says_where_everything_is(screen: str) -> None:
    """Addresses, documents, health, admin key, data, and how to stop."""
    for expected in (
        "ready after 1.2 s: http://127.0.0.1:8111\n",
        "http://127.0.0.1:8111/docs\n",
        "http://127.0.0.1:8111/status\n",
        "http://127.0.0.1:8111/api/v1/routes ",
        "http://127.0.0.1:5111/health",
        "the-key",
        "/data, port 2\n",
        "Ctrl-C stops everything",
    ):
        assert expected in screen
    assert "secret" not in screen


def test_three_lines_to_copy(screen: str, tmp_path: Path) -> None:
    """Each curl line stands whole on a line of the screen and goes through the gateway; the key comes from its file."""
    lines = [line.strip() for line in screen.splitlines()]
    commands = [command for _, command in curl_lines("http://127.0.0.1:8111", tmp_path / "key")]
    assert len(commands) == 3
    assert all(command in lines for command in commands)
    assert [command.count(f'-H "X-API-Key: $(cat {tmp_path}/key)"') for command in commands] == [0, 1, 0]
    assert screen.count("the-key") == 1


def test_a_line_that_makes_a_key(screen: str, tmp_path: Path) -> None:
    """It names the directory in which the tool finds the stores, quoted, and the tool itself, which is there."""
    assert f"\n    CONFIG_DIR='{tmp_path}/con fig' " in screen
    (tool,) = [word for word in screen.split() if word.endswith("/bin/gateway")]
    assert Path(tool).exists()


def test_a_path_with_spaces() -> None:
    """Wherever the directory is, the line works."""
    _, command = curl_lines("http://h", Path("/a b/it's/key"))[1]
    assert command.endswith("""$(cat '/a b/it'"'"'s/key')\"""")


def test_plain_without_a_terminal(screen: str) -> None:
    """Into a file or a pipe go no control characters."""
    assert "\x1b" not in screen
