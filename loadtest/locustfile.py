"""The load test, put together: who visits, in which shape, and what is judged at the end.

`make load` runs it; README.md beside this file has the rest. Exit codes: 0 all holds, 1 a limit is broken or a scenario
has failed, 2 it could not start.
"""

from __future__ import annotations

import argparse
import os
import sys
from itertools import count, cycle
from pathlib import Path
from typing import Any, NoReturn

import gevent
import psutil
from locust import User, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

from loadtest import gate, screen, slo, target
from loadtest.scenarios.clerk import Clerk
from loadtest.scenarios.customer import Customer
from loadtest.scenarios.operator import Operator
from loadtest.scenarios.sharer import Sharer
from loadtest.scenarios.shopper import Shopper
from loadtest.scenarios.visitor import Visitor
from loadtest.shapes import SHAPES
from loadtest.steering import Steering

__all__ = ["Clerk", "Customer", "Operator", "Sharer", "Shopper"]
COULD_NOT_START = 2


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Options of ours, with the environment variables that containers set."""
    shapes = "; ".join(f"{name}: {shape.meaning}" for name, shape in SHAPES.items())
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), env_var="LOAD_SHAPE", default=None, include_in_web_ui=False,
        help=f"how many users, when. {shapes}. --users and --run-time change its peak and its length. "
        "Without it, locust's own --users and --spawn-rate",
    )  # fmt: skip
    parser.add_argument(
        "--slo", metavar="<filename>", env_var="LOAD_SLO", default=str(slo.FILE), include_in_web_ui=False,
        help="limits that a run without web interface has to keep, or it exits with 1",
    )  # fmt: skip
    parser.add_argument(
        "--key-file", metavar="<filename>", env_var="LOAD_KEY_FILE", default=str(target.KEY_FILE),
        include_in_web_ui=False, help="API keys, one a line, taken in turn; README.md has their scopes",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="<text>", env_var="LOAD_SEED", default="", include_in_web_ui=False,
        help="makes what visitors choose the same each time, as far as their order is",
    )  # fmt: skip
    parser.set_defaults(host=f"http://127.0.0.1:{os.environ.get('GATEWAY_PORT') or 8000}")


@events.init.add_listener
def begin(environment: Environment, runner: Runner, **_: Any) -> None:
    """Check everything before the first request, and take over shape, progress and exit code."""
    options = environment.parsed_options or argparse.Namespace()
    try:
        limits = slo.read(Path(options.slo))
        keys = target.read_keys(Path(options.key_file))
        _leave_out_who_has_nothing_to_do(environment)
        if not isinstance(runner, WorkerRunner):
            target.check_gateway(environment.host or "", keys[0])
    except (slo.SloError, target.LoadError) as error:
        # The workers of --processes find the same as their master, who says it.
        _refuse("" if isinstance(runner, WorkerRunner) and options.processes else f"load: {error}\n")
    Visitor.keys = cycle(keys)
    Visitor.seeds = _seeds(options.seed)
    if isinstance(runner, WorkerRunner):
        environment.process_exit_code = 0  # the master judges
        return
    if options.shape:
        steering = Steering(
            SHAPES[options.shape],
            runner=runner,
            peak_users=options.num_users,
            seconds=options.run_time,
            limits=limits.all,
        )
        environment.shape_class = steering
        # The shape is the only one to end the run: locust would count the time once more from its end.
        options.run_time = None
        screen.say(f"{options.shape}: up to {steering.peak_users} users for {steering.seconds:g} s")
    screen.say(f"load on {environment.host}" + ("; Ctrl-C ends it early" if options.headless else ""))
    if options.headless:
        gevent.spawn(screen.progress, runner)
        events.quitting.add_listener(lambda environment, **_: _judge(environment, runner, options, limits))
    else:
        screen.say(f"web interface on http://{_host(options.web_host)}:{options.web_port}; Ctrl-C ends it")


def _judge(environment: Environment, runner: Runner, options: argparse.Namespace, limits: slo.Slo) -> None:
    """Show what was measured and set the exit code."""
    shape = environment.shape_class
    entries, total, seconds = screen.measured(environment)
    checks = gate.judge(limits, entries, total, seconds=seconds)
    screen.show(environment, checks, exceptions=len(runner.exceptions))
    judged = True
    if isinstance(shape, Steering):
        judged = shape.shape.judged
        if shape.shape.seeks_knee:
            screen.show_ramp(shape)
    holds = gate.holds(checks) if judged else total.requests > 0
    environment.process_exit_code = 0 if holds and not runner.exceptions else 1
    screen.say()
    for what, path in (("report", options.html_file), ("figures", options.json_file and f"{options.json_file}.json")):
        if path:
            screen.say(f"{what + ':':<9} {path}")
    broken = [check for check in checks if not check.holds]
    if not judged:
        screen.say(f"{options.shape} goes beyond the limits to see what is there; {len(broken)} are broken, as may be")
    elif broken:
        screen.say(f"{len(broken)} of {len(checks)} limits are BROKEN:\n{gate.table(broken)}")
    else:
        screen.say(f"all {len(checks)} limits hold")
    if runner.exceptions:
        screen.say("FAILED all the same: a scenario itself has, see above")


def _leave_out_who_has_nothing_to_do(environment: Environment) -> None:
    """With `--tags` some visitors have no task left. Locust would let them come, to fail at once, again and again."""
    options = environment.parsed_options or argparse.Namespace()
    wanted, unwanted = set(options.tags or ()), set(options.exclude_tags or ())

    def has_something_to_do(user: type[User]) -> bool:
        tags: list[set[str]] = [getattr(task, "locust_tag_set", set()) for task in user.tasks]
        return any((not wanted or each & wanted) and not each & unwanted for each in tags)

    environment.user_classes[:] = [user for user in environment.user_classes if has_something_to_do(user)]
    if not environment.user_classes:
        raise target.LoadError("nobody has anything to do with these --tags: loadtest/scenarios has the tags")


def _seeds(seed: str) -> Any:
    """A seed for each visitor of this process; without one of ours, as good as random."""
    own = seed or os.urandom(16).hex()
    return (f"{own}:{number}" for number in count())


def _host(web_host: str) -> str:
    return "127.0.0.1" if web_host in ("", "*") else web_host


def _refuse(line: str) -> NoReturn:
    """One line, and out, with the workers of `--processes`: locust leaves those alone that have not found their master
    yet, and they would look for it for minutes.
    """
    sys.stderr.write(line)
    for worker in psutil.Process().children():
        worker.kill()
    raise SystemExit(COULD_NOT_START)
