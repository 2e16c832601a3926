"""What fog and snow share: clouds are changed when they are read, and intensities mean received power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame
from opencood.errors import ConfigError

Points = NDArray[np.float32]
Change = Callable[[Points, np.random.Generator], Points]
_EIGHT_BIT = 255.0


@dataclass(frozen=True)
class WeatheredDecode:
    """Reads a cloud and changes it; the same cloud every time it is read.

    Attributes:
        decode: turns the file into (N, 4) points.
        change: the weather.
        seed: of its generator.
    """

    decode: Callable[[Path], Points]
    change: Change
    seed: int

    def __call__(self, path: Path) -> Points:
        """Return the changed (N, 4) float32 cloud."""
        return self.change(self.decode(path), np.random.default_rng(self.seed))


def under_weather(frame: Frame, change: Change, draws: Draws) -> Frame:
    """Return the frame whose clouds will be changed when they are read, each agent's with a generator of its own."""

    def weathered(agent: Agent) -> Agent:
        seed = int(draws.child(agent.id).numpy.randint(0, 2**31 - 1))
        return replace(agent, lidar=replace(agent.lidar, decode=WeatheredDecode(agent.lidar.decode, change, seed)))

    return replace(frame, agents=tuple(map(weathered, frame.agents)))


def checked_overlap(name: str, overlap: Sequence[float]) -> tuple[float, float]:
    """Return the two ranges in metres between which the receiver begins to see.

    Raises:
        ConfigError: they are not two growing numbers.
    """
    if len(overlap) != 2 or not 0 <= overlap[0] < overlap[1]:
        raise ConfigError(f"perturb.{name}.overlap: expected two growing ranges in metres, found {list(overlap)}.")
    return float(overlap[0]), float(overlap[1])


def ranges_of(points: Points) -> NDArray[np.float64]:
    """(N,) distances of (N, 4) points from the sensor, metres."""
    return np.linalg.norm(points[:, :3].astype(np.float64), axis=1)


def moved_along_beams(
    points: Points, old: NDArray[np.float64], new: NDArray[np.float64], intensity: NDArray[np.float64]
) -> Points:
    """Return (N, 4) points whose ranges (N,) are new ones, in the same direction, with new intensities (N,)."""
    scale = np.divide(new, old, out=np.ones_like(new), where=old > 0)
    moved = points.copy()
    moved[:, :3] = points[:, :3] * scale[:, None]
    moved[:, 3] = intensity
    return moved


def full_scale(points: Points) -> float:
    """The intensity that stands for a perfectly reflecting target: 1, or 255 where values exceed 1."""
    return _EIGHT_BIT if len(points) and points[:, 3].max() > 1 else 1.0
