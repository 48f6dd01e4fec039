"""Starts the stack in order, waits for its end or for somebody who ends it, and stops it in order."""

import asyncio
import signal
import time
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path

import psycopg2

from stack.children import Child, Output, how_it_ended, start_child, stop_children
from stack.plan import TOOLS, Plan, Service, StackError, Tool, environment_of
from stack.probe import answers
from stack.screen import render
from stack.state import admin_key, admin_key_file, config_directory
from stack.stores import Stores, is_empty, start_stores

_READY_TIMEOUT_S = 60.0
# Together less than the ten seconds within which everything is promised to be gone.
_SERVICES_STOP_S = 6.0
_STORE_STOP_S = 1.5


class Supervisor:
    """One run of the stack; `run` is called once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._services: list[Child] = []
        self._tools: list[Child] = []
        self._stop = asyncio.Event()
        colours = {service.name: service.colour for service in plan.services}
        colours |= {tool.name: colours[tool.service] for tool in TOOLS}
        self._output = Output(width=max(map(len, colours)), colours=colours)

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP. Raises StackError if anything fails or ends that should not."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, self._stop.set)
        begin = time.monotonic()
        # Blocks the loop, and so a Ctrl-C, for half a second at the first start. The stores must be started by this
        # thread: they end with the thread that starts them.
        stores = start_stores(self._plan)
        try:
            key = admin_key_file(self._plan.directory)
            own = {name: url for name, url in stores.urls_of("gateway").items() if not self._plan.given(name)}
            config = config_directory(self._plan.directory, own)
            await self._first_of(self._start(stores, key), self._stop.wait(), self._watch(stores))
            if not self._stop.is_set():
                seconds = time.monotonic() - begin
                self._output.write(render(self._plan, stores, admin_key=key, config=config, seconds=seconds))
                await self._first_of(self._stop.wait(), self._watch(stores))
        finally:
            self._output.write("\nstopping ...\n")
            await stop_children([*self._tools, *self._services], timeout_s=_SERVICES_STOP_S)
            for server in stores.started:
                server.stop(timeout_s=_STORE_STOP_S)
        self._output.write("stopped\n")

    async def _start(self, stores: Stores, key: Path) -> None:
        """Start the services and make their schemas at the same time; return when shoppers are served."""
        for service in self._plan.services:
            if not self._plan.needs_schema(service.name):
                await self._start_service(service, stores, key)
        await _all(
            [self._prepare(tool, stores, key) for tool in TOOLS]
            + [
                self._await(service.name, f"{self._plan.url_of(service.name)}/health/live")
                for service in self._plan.services
            ]
        )
        await self._await("gateway", f"{self._plan.url}/api/products?per_page=1")
        await self._await("gateway", f"{self._plan.url}/api/v1/users?per_page=1", key=admin_key(key))
        await self._await("gateway", f"{self._plan.url}/links")

    async def _start_service(self, service: Service, stores: Stores, key: Path) -> None:
        environment = environment_of(service.name, self._plan, stores.urls_of(service.name), admin_key=key)
        child = start_child(service.name, service.command(), env=environment)
        self._services.append(child)
        await child.read(self._output)

    async def _prepare(self, tool: Tool, stores: Stores, key: Path) -> None:
        """Bring the schema up to date; then start the service that needs it, and fill the table if it is empty."""
        urls = stores.urls_of(tool.service)
        environment = environment_of(tool.service, self._plan, urls, admin_key=key)
        await self._run_tool(tool, tool.create, environment)
        for service in self._plan.services:
            if service.name == tool.service and self._plan.needs_schema(service.name):
                await self._start_service(service, stores, key)
        if tool.table is None:
            return
        try:
            empty = await asyncio.to_thread(is_empty, urls["DATABASE_URL"], tool.table)
        except psycopg2.Error as error:
            raise StackError(f"{tool.name}: cannot read table {tool.table}: {type(error).__name__}") from error
        if empty:
            await self._run_tool(tool, tool.fill, environment)

    async def _run_tool(self, tool: Tool, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        child = start_child(tool.name, tool.command(*arguments), env=environment)
        self._tools.append(child)
        await child.read(self._output)
        if await child.wait() != 0:
            raise StackError(
                f"`{tool.name} {' '.join(arguments)}` failed: {self._remedy_of_database()}", details=child.last_words()
            )

    async def _await(self, name: str, url: str, *, key: str | None = None) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while not await answers(url, key=key):  # noqa: ASYNC110 - another process answers
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StackError(
                f"{name} does not answer 200 to {url} after {_READY_TIMEOUT_S:g} s: its lines above say why"
            ) from None

    async def _watch(self, stores: Stores) -> None:
        """Return never; raise StackError when a service or a store of our own ends."""
        while True:
            for child in self._services:
                if child.process.poll() is not None:
                    code = await child.wait()
                    if self._stop.is_set():  # both told to stop by the same terminal: not unexpected
                        return
                    how = how_it_ended(code)
                    raise StackError(
                        f"{child.name} ended by itself, {how}: see its last lines, then `make run` again",
                        details=child.last_words(),
                    )
            for server in stores.started:
                if (end := server.process.poll()) is not None:
                    how = how_it_ended(end)
                    raise StackError(
                        f"{server.name} ended by itself, {how}: see {server.log_file}, then `make run` again",
                        details="\n".join(server.log_file.read_text(errors="replace").splitlines()[-10:]),
                    )
            await asyncio.sleep(0.1)

    async def _first_of(self, *work: Coroutine[object, object, object]) -> None:
        """Do all of `work` until the first is done; raise what it raised. The others are cancelled."""
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                for task in done:
                    task.result()
        finally:
            await _cancel(tasks)

    def _remedy_of_database(self) -> str:
        if self._plan.given("DATABASE_URL"):
            return "check that the server of DATABASE_URL runs and lets this user create tables"
        return f"its lines say why; `rm -r {self._plan.directory}` starts with empty stores"


async def _all(work: Iterable[Coroutine[object, object, object]]) -> None:
    """Do all of `work`; raise the first exception as it is, the rest cancelled. A TaskGroup would wrap it."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: "Sequence[asyncio.Future[object]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
