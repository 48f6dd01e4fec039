"""The launcher that `chassis.children.spawn` puts in front of a command.

    python launch.py PARENT_PID DEATH_SIGNAL UID:GID|- CWD COMMAND...

It gives up root, ties the process to its parent and becomes the command by `exec`. A `preexec_fn` would do the
same with Python code between fork and exec, which can deadlock in a parent that has threads. It imports next to
nothing, to cost 15 ms.
"""

import os
import sys


def main(parent: str, death_signal: str, who: str, cwd: str, *command: str) -> None:
    """Become `command`; returns only by an exception."""
    libc = None
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None)  # while still root: afterwards the interpreter's own files may be out of reach
    if who != "-":
        uid, gid = map(int, who.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.chdir(cwd)
    if libc is not None:
        libc.prctl(1, int(death_signal))  # PR_SET_PDEATHSIG; after setuid, which would clear it
        if os.getppid() != int(parent):
            sys.exit("the parent ended before its child began")
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(*sys.argv[1:])
