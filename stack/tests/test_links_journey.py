"""A short link from the form to the count, in a real browser: shorten, scan, follow."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zxingcpp
from PIL import Image

from chassis.testing import require, wait_until

pytestmark = pytest.mark.slow
StartRun = Callable[..., Any]
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=900,1100",
)  # fmt: skip


class Tab:
    """A tab of Chromium, by its debugging protocol."""

    def __init__(self, wire: aiohttp.ClientWebSocketResponse) -> None:
        self._wire = wire
        self._number = 0

    async def do(self, method: str, **parameters: Any) -> Any:
        """Send a command; return its result."""
        self._number += 1
        await self._wire.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._wire.receive_json(timeout=20)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is worth; it works where the page's own scripts are off, too."""
        result = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait(self, expression: str) -> None:
        """Wait for it to be true."""
        async with asyncio.timeout(20):
            while not await self.value(f"document.readyState === 'complete' && Boolean({expression})"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def type(self, field: str, text: str) -> None:
        """Type into the field with that id."""
        await self.value(f"document.getElementById({json.dumps(field)}).focus()")
        await self.do("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key of the keyboard."""
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def picture(self) -> Image.Image:
        """What is seen."""
        shot = await self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"])))


@contextmanager
def _chromium(profile: Path) -> Iterator[str]:
    """The port on which a new Chromium takes commands."""
    command = [require("chromium"), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = profile / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and port_file.read_text().strip(), timeout_s=30)
        yield port_file.read_text().split()[0]
    finally:
        process.terminate()
        process.wait(20)


async def _in_browser(port: str, journey: Callable[[Tab], Any]) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = await answer.json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as wire:
            await journey(Tab(wire))


def test_shorten_scan_follow_and_count(start_run: StartRun, tmp_path: Path) -> None:
    """By keyboard alone, with scripts switched off: a link is made, its QR code read off the screen, it leads where it
    should and counts. With scripts, a button copies it. Without a good key, the form says so and keeps what was typed.
    """
    run = start_run().wait_ready()
    target = f"{run.url}/api/products/1"
    key = run.admin_key.read_text()
    found: dict[str, str] = {}

    async def journey(tab: Tab) -> None:
        await tab.do("Page.enable")
        await tab.do("Emulation.setScriptExecutionDisabled", value=True)
        await tab.do("Page.navigate", url=f"{run.url}/links")
        await tab.wait("document.querySelector('#url')")
        await tab.type("url", target)
        await tab.type("key", "sf_of-nobody")
        await tab.press("Enter", 13, "\r")
        await tab.wait("document.querySelector('[role=alert]')")
        assert await tab.value("document.querySelector('#url').value") == target
        assert await tab.value("document.querySelector('#key').value") == ""
        assert await tab.value("document.querySelector('#key').getAttribute('aria-invalid')") == "true"
        await tab.type("key", key)
        await tab.press("Enter", 13, "\r")
        await tab.wait("document.querySelector('#short') && document.querySelector('img').complete")
        found["short_url"] = await tab.value("document.querySelector('#short').href")
        assert await tab.value("document.querySelector('button[data-copy]').hidden")
        codes = zxingcpp.read_barcodes(await tab.picture())
        assert [code.text for code in codes] == [found["short_url"]]

        await tab.do("Emulation.setScriptExecutionDisabled", value=False)
        await tab.do(
            "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"], origin=run.url
        )  # fmt: skip
        await tab.do("Page.reload")
        await tab.wait("document.querySelector('button[data-copy]:not([hidden])')")
        await tab.value("document.querySelector('button[data-copy]').focus()")
        await tab.press("Enter", 13, "\r")
        await tab.wait("document.getElementById('copied').textContent")
        assert await tab.value("document.getElementById('copied').textContent") == "Copied."
        assert await tab.value("navigator.clipboard.readText()") == found["short_url"]

        await tab.do("Page.navigate", url=found["short_url"])
        await tab.wait(f"location.href === {json.dumps(target)}")

    with _chromium(tmp_path / "profile") as port:
        asyncio.run(_in_browser(port, journey))
    code = found["short_url"].rpartition("/")[2]
    assert found["short_url"] == f"{run.url}/s/{code}"
    assert run.get(f"/api/v1/links/{code}")["clicks"] == 1
    assert run.end() == 0
    assert run.output.count(key) == 1  # on the screen, and in no log
