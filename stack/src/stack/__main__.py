"""`python -m stack` serves the storefront (`make run`); `observe` watches it, `clean` removes its data."""

import argparse
import asyncio
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from stack.observe import Observer
from stack.observe_plan import check_run, make_watch
from stack.plan import StackError, check_ports, make_plan
from stack.state import only_one
from stack.stores import remove_stores
from stack.supervisor import Supervisor


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 if it was told to stop, 1 if it could not go on."""
    parser = argparse.ArgumentParser(prog="stack", description="Run the whole storefront on this machine.")
    parser.add_argument(
        "verb",
        nargs="?",
        choices=("run", "observe", "clean"),
        default="run",
        help="observe: Prometheus and Alertmanager beside a run; clean: remove .run, all data",
    )
    verb = parser.parse_args(arguments).verb
    try:
        plan = make_plan(Path.cwd() / ".run", os.environ)
        if verb == "observe":
            check_run(plan)
            with only_one(replace(plan, directory=plan.directory / "observe")):
                asyncio.run(Observer(make_watch(plan, Path.cwd() / "observability")).run())
            return 0
        with only_one(plan):
            if verb == "clean":
                remove_stores(plan.directory)
                shutil.rmtree(plan.directory)
            else:
                check_ports(plan)
                asyncio.run(Supervisor(plan).run())
    except StackError as error:
        sys.stderr.write(f"{error.details}\n" * bool(error.details) + f"stack: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"stack: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
