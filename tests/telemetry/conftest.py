"""Assertions in the modules that the test imports say what they compared, as those of the test do."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.telemetry.{name}" for name in ("expressions", "joins", "labels", "matrix", "traffic"))
)
