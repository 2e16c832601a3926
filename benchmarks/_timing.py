"""How benchmarks measure: the median of several runs, beside a plain baseline."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

Row = dict[str, Any]


def median_seconds(work: Callable[[], Any], runs: int = 5, warm_up: int = 1) -> float:
    """Median wall-clock time of ``work()`` in seconds, after ``warm_up`` calls that do not count."""
    for _ in range(warm_up):
        work()
    return median(_timed(work) for _ in range(runs))


def versus(name: str, fast: float, plain: float | None, unit: str = "ms", scale: float = 1e3) -> Row:
    """A row that compares seconds with the seconds of the plain baseline; ratio = how many times faster."""
    baseline = None if plain is None else plain * scale
    return {"name": name, "value": fast * scale, "unit": unit, "baseline": baseline, "ratio": plain and plain / fast}


def _timed(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started
