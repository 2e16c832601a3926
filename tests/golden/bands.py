"""Rules of whole runs: bands of allowed deviation along a series of steps, and boxes in free order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SMALL_LOSS, SMALL_PART = 1e-3, 0.01


def band_bounds(bands: Mapping[str, Any], want: np.ndarray) -> np.ndarray:
    """Allowed deviation of every step: the tightest of the bands (``step_1``, ``steps_4_10``) that hold it."""
    allowed = np.full(len(want), np.nan)
    floor = max(SMALL_PART * abs(float(want.mean())), SMALL_LOSS)
    for name, band in bands.items():
        steps = [int(number) for number in name.split("_")[1:]]
        chosen = slice(steps[0] - 1, steps[-1])
        size = np.maximum(np.abs(want[chosen]), floor)
        rtol = float(band["rtol"])
        limit = np.full(len(size), np.inf) if np.isinf(rtol) else rtol * size
        allowed[chosen] = np.fmin(allowed[chosen], limit)
    return allowed


def pairing(want: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Order that brings boxes (N, 8, 3) next to their stored partners; as they are when the counts differ."""
    if len(want) != len(got):
        return np.arange(len(got))
    distance = np.abs(want[:, None].astype(np.float64) - got[None]).max(axis=(2, 3))
    order: list[int] = []
    for row in distance:
        row[order] = np.inf
        order.append(int(row.argmin()))
    return np.array(order, dtype=np.int64)
