"""`python -m chassis.serve`: the service named by SERVICE under gunicorn, in this very process.

What an image starts. The first process of a container gets no signal that it has no handler for, so SIGTERM has one
from the beginning, and not only from when gunicorn is ready for it.
"""

import os
import signal
import sys
from typing import NoReturn


def leave(_number: int, _frame: object) -> NoReturn:
    """End at once: nothing has been started yet, and an exception could be lost in a callback of the import system."""
    os._exit(0)


def main() -> None:
    """Serve; further arguments are gunicorn's. Raises SystemExit, as gunicorn does."""
    signal.signal(signal.SIGTERM, leave)
    service = os.environ.get("SERVICE", "")
    if not service.isidentifier():
        raise SystemExit(f"SERVICE: got {service!r}, want the name of a service")
    from gunicorn.app.wsgiapp import run

    sys.argv[1:1] = ["--config", f"python:{service}.gunicorn_conf"]
    run()


if __name__ == "__main__":
    main()
