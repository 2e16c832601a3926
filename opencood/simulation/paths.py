"""Paths that road users follow: polylines by arc length, with the speed their curves allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPACING = 0.5
_SIDEWAYS_ACCELERATION = 2.5
_BRAKING = 2.0


@dataclass(frozen=True)
class Route:
    """Way points (W, 2) of one path before resampling; where it has to stop at red and for which arm's light."""

    points: np.ndarray
    stop: float = np.inf
    arm: int = -1


@dataclass(frozen=True)
class Paths:
    """Several paths, resampled every ``SPACING`` metres and padded to one table.

    Attributes:
        points: (P, L, 3) x, y, heading (rad, continuous along a path).
        speed_limit: (P, L) m/s that curves allow, with braking distance.
        length: (P,) metres.
        stop: (P,) arc length of the stop line, infinite where there is none.
        arm: (P,) junction arm whose light counts, -1 for footways.
    """

    points: np.ndarray
    speed_limit: np.ndarray
    length: np.ndarray
    stop: np.ndarray
    arm: np.ndarray

    @classmethod
    def of(cls, routes: Sequence[Route]) -> Paths:
        """Resample routes and pad them with their last point."""
        tracks = [_resample(route.points) for route in routes]
        longest = max(len(track) for track in tracks)
        points = np.stack([np.concatenate([t, np.repeat(t[-1:], longest - len(t), axis=0)]) for t in tracks])
        return cls(
            points=points,
            speed_limit=_speed_limits(points[..., 2]),
            length=np.array([(len(track) - 1) * SPACING for track in tracks]),
            stop=np.array([route.stop for route in routes]),
            arm=np.array([route.arm for route in routes]),
        )

    def at(self, path: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Poses (..., 3) = x, y, heading at arc lengths ``distance`` of paths ``path``, clamped to their ends."""
        index, fraction = self._locate(path, distance)
        start = self.points[path, index]
        return start + fraction[..., None] * (self.points[path, index + 1] - start)

    def limit_at(self, path: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Speed that the path allows at an arc length, m/s."""
        return self.speed_limit[path, self._locate(path, distance)[0]]

    def _locate(self, path: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        steps = np.clip(distance, 0, self.length[path]) / SPACING
        index = np.minimum(steps.astype(int), self.points.shape[1] - 2)
        return index, steps - index


def hermite(start: np.ndarray, start_heading: float, end: np.ndarray, end_heading: float) -> np.ndarray:
    """Smooth curve (W, 2) between two points with given headings (rad)."""
    reach = 1.3 * np.linalg.norm(end - start)
    leave = reach * np.array([np.cos(start_heading), np.sin(start_heading)])
    arrive = reach * np.array([np.cos(end_heading), np.sin(end_heading)])
    t = np.linspace(0, 1, 40)[:, None]
    return (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * leave
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * arrive
    )


def _resample(points: np.ndarray) -> np.ndarray:
    """Track (L, 3) at equal arc lengths with continuous headings."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.arange(0, along[-1], SPACING)
    x, y = np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])
    heading = np.unwrap(np.arctan2(np.gradient(y), np.gradient(x)))
    return np.column_stack([x, y, heading])


def _speed_limits(headings: np.ndarray) -> np.ndarray:
    """Speeds (P, L) that keep the sideways acceleration small, lowered so that braking in time is possible."""
    curvature = np.abs(np.gradient(headings, axis=1)) / SPACING
    limit = np.sqrt(_SIDEWAYS_ACCELERATION / np.maximum(curvature, 1e-3))
    for i in range(limit.shape[1] - 2, -1, -1):
        limit[:, i] = np.minimum(limit[:, i], np.sqrt(limit[:, i + 1] ** 2 + 2 * _BRAKING * SPACING))
    return limit
