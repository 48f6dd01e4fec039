"""A page as a real browser draws it: headless Chromium that can reach nothing but this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from chassis.testing.tools import require

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # needed as root; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
)


class Drawn(NamedTuple):
    """The document as it is once its scripts have run, and the browser's log."""

    html: str
    log: str


def draw(url: str, directory: Path, *, budget_ms: int = 10_000, dark: bool = False) -> Drawn:
    """Open `url`; `directory` is for the browser's profile. Skips the test without Chromium, fails it under CI.

    Args:
        budget_ms: how much time passes for the page; less than that after which it reloads itself.
        dark: whether the reader prefers dark colours.
    """
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    return Drawn(*_run(url, directory, scheme, f"--virtual-time-budget={budget_ms}", "--dump-dom"))


def screenshot(url: str, directory: Path, *, width: int = 1280, height: int = 900) -> bytes:
    """What a window of that size, in pixels, shows of `url`, as PNG."""
    file = directory / "screenshot.png"
    _run(url, directory, f"--window-size={width},{height}", f"--screenshot={file}")
    return file.read_bytes()


def _run(url: str, directory: Path, *options: str) -> tuple[str, str]:
    command = [require("chromium"), *_OPTIONS, f"--user-data-dir={directory / 'profile'}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr
