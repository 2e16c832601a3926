"""Time stamps of recordings: which earlier frame an observation of some age comes from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_MICROSECONDS_FROM = 1e12  # seconds since 1970 stay below, microseconds lie above
_SLACK_MS = 1e-3


class Recording:
    """Frames in the order in which they were taken, perhaps several scenes one after the other.

    Args:
        stamps: (n,) seconds, or microseconds as in nuScenes and DAIR-V2X.
        scenes: (n,) name of the scene of each frame; None: a new scene begins where time goes back or stands still, or
            leaps by more than ``longest_gap`` seconds.
        longest_gap: see ``scenes``.

    Raises:
        ValueError: a stamp is no finite number.
    """

    def __init__(
        self, stamps: Sequence[float], scenes: Sequence[Hashable] | None = None, longest_gap: float = 1.0
    ) -> None:
        times = np.array(stamps, np.float64)
        if not np.isfinite(times).all():
            raise ValueError("time stamps must be finite numbers")
        self._milliseconds = times * (1e-3 if len(times) and times.max() > _MICROSECONDS_FROM else 1e3)
        self._first = _scene_starts(self._milliseconds, scenes, longest_gap * 1e3)

    def earlier(self, frame: int, age: float) -> int:
        """Return the newest frame of the scene at least ``age`` milliseconds older, or its first one."""
        first = self._first[frame]
        wanted = self._milliseconds[frame] - age + _SLACK_MS
        behind = int(np.searchsorted(self._milliseconds[first : frame + 1], wanted, side="right")) - 1
        return first + max(behind, 0)


def _scene_starts(
    milliseconds: NDArray[np.float64], scenes: Sequence[Hashable] | None, longest_gap: float
) -> list[int]:
    steps = np.diff(milliseconds)
    new = (steps <= 0) | (steps > longest_gap) if scenes is None else steps <= 0
    if scenes is not None:
        new |= np.array([one != other for one, other in zip(scenes, scenes[1:], strict=False)], bool)
    starts = np.arange(len(milliseconds))
    starts[1:][~new] = 0
    return np.maximum.accumulate(starts).tolist()
