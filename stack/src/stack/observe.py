"""`make observe`: Prometheus, Alertmanager and exporters beside a run, until somebody ends it."""

import asyncio
import signal
from pathlib import Path

from rich.text import Text

from stack.children import Child, Output, how_it_ended, start_child, stop_children
from stack.observe_plan import Watch
from stack.observe_tools import REMEDY, Command, environment_for
from stack.plan import StackError
from stack.probe import answers
from stack.screen import to_text

_READY_TIMEOUT_S = 30.0
_STOP_S = 6.0
TO_TRY = (
    ("requests a second, by service", "service:http_requests:rate5m"),
    ("95 of 100 requests take no longer, seconds", "service:http_request_duration_seconds:p95_5m"),
    ("what the gateway's cache did, a minute", "sum by (result) (rate(gateway_cache_requests_total[5m])) * 60"),
)
"""(what it shows, PromQL): each gives data a minute after the first requests."""


class _LogFile(Output):
    """Exporters complain at every scrape of what a machine does not have: that belongs into a file."""

    def __init__(self, file: Path, *, width: int) -> None:
        super().__init__(width=width, colours={})
        self._file = file
        file.write_text("", encoding="utf-8")

    def write(self, text: str) -> None:
        """Write as it is."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(text)


class Observer:
    """One `make observe`; `run` is called once."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._children: list[Child] = []
        width = max(len(command.name) for command in watch.commands)
        self._output = Output(width=width, colours={})
        self._log = _LogFile(watch.exporter_log, width=width)

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP. Raises StackError if something ends that should not."""
        stop = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        work = asyncio.create_task(self._serve())
        told = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([work, told], return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                work.result()
        finally:
            for task in (work, told):
                task.cancel()
            await asyncio.gather(work, told, return_exceptions=True)
            self._output.write("\nstopping ...\n")
            await stop_children(self._children, timeout_s=_STOP_S)
        self._output.write("stopped\n")

    async def _serve(self) -> None:
        """Start everything, show where it is, and raise StackError when some of it ends."""
        start = asyncio.create_task(self._start())
        while True:
            for child in self._children:
                if (code := child.process.poll()) is not None:
                    await child.wait()
                    start.cancel()
                    raise StackError(
                        f"{child.name} ended by itself, {how_it_ended(code)}: its last lines say why",
                        details=child.last_words(),
                    )
            if start.done():
                start.result()
            await asyncio.sleep(0.1)

    async def _start(self) -> None:
        """Start one after the other; Prometheus comes last, when Alertmanager can take its alerts."""
        for command in self._watch.commands:
            child = start_child(command.name, command.arguments, env=environment_for(command))
            self._children.append(child)
            await child.read(self._output if command.url else self._log)
            if command.url:
                await self._await_ready(command)
        # Debian's Prometheus has the pages of Prometheus 2.0 in the place of the ones that came later.
        pages = "" if await answers(f"{self._watch.prometheus_url}/alerts") else "/classic"
        self._output.write(render(self._watch, pages=pages))

    async def _await_ready(self, command: Command) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while not await answers(f"{command.url}/-/ready"):  # noqa: ASYNC110 - another process answers
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StackError(f"{command.name} does not answer on {command.url} after {_READY_TIMEOUT_S:g} s") from None


def render(watch: Watch, *, pages: str = "") -> str:
    """What the terminal shows: where it is, what is scraped, what is not, and what to try.

    `pages` is the path under which Prometheus has its pages.
    """
    screen = Text("\n")
    screen.append(f"Prometheus watches {watch.plan.url}\n\n", style="bold green")
    for label, url in (
        ("Prometheus", f"{watch.prometheus_url}/"),
        ("Alerts", f"{watch.prometheus_url}{pages}/alerts"),
        ("Targets", f"{watch.prometheus_url}{pages}/targets"),
        ("Alertmanager", f"{watch.alertmanager_url}/"),
    ):
        screen.append(f"  {label:<12}  ", style="bold").append(f"{url}\n")
    screen.append("\n  Scraped:\n", style="bold")
    for job, addresses in watch.scraped:
        screen.append(f"    {job:<12}  {', '.join(addresses)}\n")
    if watch.missing:
        remedy = f"{REMEDY.partition(' prometheus')[0]} {' '.join(watch.missing)}"
        screen.append("\n  Not scraped, as its exporter is not installed: ", style="bold").append(f"{remedy}\n")
    if nowhere := [job for job in watch.lost if job not in _exported(watch)]:
        screen.append(f"\n  In Compose only: {', '.join(nowhere)}\n")
    screen.append("\n  To try in Prometheus:\n", style="bold")
    for what, query in TO_TRY:
        screen.append(f"    # {what}\n", style="dim").append(f"    {query}\n", style="cyan")
    screen.append(
        "\n  Ctrl-C ends all of this, and nothing of `make run`. The data stays in .run/observe.\n\n", style="bold"
    )
    return to_text(screen)


def _exported(watch: Watch) -> set[str]:
    """The jobs that are lost for want of an exporter."""
    names = {package.removeprefix("prometheus-").removesuffix("-exporter") for package in watch.missing}
    return names | ({"probe"} if "blackbox" in names else set())
