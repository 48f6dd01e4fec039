"""Tools that a machine may lack."""

import os
import shutil
from typing import NoReturn

import pytest


def require(tool: str) -> str:
    """The path of a command line tool. Without it the test is skipped, or fails when `CI` is set: there, nothing
    may go untested in silence.
    """
    path = shutil.which(tool)
    if path is None:
        missing(f"`{tool}` is not installed")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test for this reason, or fail it when `CI` is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set", pytrace=False)
    pytest.skip(reason)
