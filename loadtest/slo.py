"""What a load test demands, read from slo.yml and checked before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from loadtest.endpoints import Endpoint

FILE = Path(__file__).with_name("slo.yml")
ALL = "all"
"""The name, in slo.yml and in tables, of all requests together."""


class SloError(ValueError):
    """slo.yml says what cannot be judged; the message names the file, the place and what is wanted."""


@dataclass(frozen=True)
class Limits:
    """Limits of one endpoint; None where nothing is demanded.

    Attributes:
        p95_ms, p99_ms: the most that 95 and 99 of 100 requests may take, failed ones included.
        error_rate: the largest share of failed requests, 0 to 1.
        per_second: the fewest requests a second, over the whole run.
    """

    p95_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    per_second: float | None = None


@dataclass(frozen=True)
class Slo:
    """`all`: of all requests together. `endpoints`: of each, by its name."""

    all: Limits
    endpoints: Mapping[Endpoint, Limits]


def read(path: Path = FILE) -> Slo:
    """The limits in a file. Raises SloError, also if there is no such file."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SloError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        return parse(document)
    except SloError as error:
        raise SloError(f"{path}: {error}") from None


def parse(document: Any) -> Slo:
    """The limits in what YAML gives. Raises SloError."""
    parts = _mapping(document, "the file")
    if unknown := parts.keys() - {ALL, "endpoints"}:
        raise SloError(f"{min(unknown)!r} is unknown: there are `all` and `endpoints`")
    endpoints = {}
    for name, limits in _mapping(parts.get("endpoints", {}), "endpoints").items():
        try:
            endpoint = Endpoint(name)
        except ValueError:
            raise SloError(f"{name!r} is no endpoint of the scenarios: loadtest/endpoints.py has them") from None
        endpoints[endpoint] = _limits(limits, name)
    if not endpoints:
        raise SloError("endpoints: at least one is wanted")
    return Slo(_limits(parts[ALL], ALL) if ALL in parts else Limits(), endpoints)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise SloError(f"{where}: names with values are wanted, not {value!r}")
    return value


def _limits(value: Any, where: str) -> Limits:
    found = _mapping(value, where)
    known = [field.name for field in fields(Limits)]
    for name, limit in found.items():
        if name not in known:
            raise SloError(f"{where}: {name!r} is unknown: there are {', '.join(known)}")
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool) and math.isfinite(limit)
        if not is_number or limit < 0 or (name == "error_rate" and limit > 1):
            wanted = "a share from 0 to 1" if name == "error_rate" else "a number from 0"
            raise SloError(f"{where}: {name}: {wanted} is wanted, not {limit!r}")
    if not found:
        raise SloError(f"{where}: at least one limit is wanted")
    return Limits(**{name: float(limit) for name, limit in found.items()})
