"""Tools that a machine may lack."""

import os
import shutil

import pytest


def require(tool: str) -> str:
    """The path of a command line tool. Without it the test is skipped, or fails when `CI` is set: there, nothing
    may go untested in silence.
    """
    if path := shutil.which(tool):
        return path
    reason = f"`{tool}` is not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set", pytrace=False)
    pytest.skip(reason)
