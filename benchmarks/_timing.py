"""How benchmarks measure: the median of several runs, beside a plain baseline.

The clock is the wall's. Where other programs keep the cores busy, ``OPENCOOD_BENCHMARK_CLOCK=cpu`` counts the time that
this process computes instead; single-process rows are then comparable, those of several processes are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

Row = dict[str, Any]
CLOCK = "cpu" if os.environ.get("OPENCOOD_BENCHMARK_CLOCK") == "cpu" else "wall"
_now = process_time if CLOCK == "cpu" else perf_counter


def median_seconds(work: Callable[[], Any], runs: int = 5, warm_up: int = 1) -> float:
    """Median time of ``work()`` in seconds, after ``warm_up`` calls that do not count."""
    for _ in range(warm_up):
        work()
    return median(_timed(work) for _ in range(runs))


def versus(name: str, fast: float, plain: float | None, unit: str = "ms", scale: float = 1e3) -> Row:
    """A row that compares seconds with the seconds of the plain baseline; ratio = how many times faster."""
    baseline = None if plain is None else plain * scale
    return {"name": name, "value": fast * scale, "unit": unit, "baseline": baseline, "ratio": plain and plain / fast}


def _timed(work: Callable[[], Any]) -> float:
    started = _now()
    work()
    return _now() - started
