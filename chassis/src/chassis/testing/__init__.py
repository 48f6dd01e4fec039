"""What tests against real servers need; the fixtures are in `chassis.testing.plugin`."""

from chassis.children import free_port, wait_until
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.meanwhile import Meanwhile
from chassis.testing.proxy import CutProxy
from chassis.testing.tools import require

__all__ = ["CutProxy", "GunicornProcess", "Meanwhile", "free_port", "require", "wait_until"]
