"""LiDAR in fog, from the optical model of

    Hahner, Sakaridis, Dai, Van Gool: Fog Simulation on Real LiDAR Point Clouds for 3D Object Detection in Adverse
    Weather, ICCV 2021 (arXiv 2108.05249), section 3; the model is that of Rasshofer, Spies, Spies: Influences of
    weather phenomena on automotive laser radar systems, Advances in Radio Science 9, 2011.

The equations, numbered as in docs/perturbations.md. A pulse of half-power width tau and shape sin^2 is sent, the sensor
receives at range R what the impulse response H of the channel makes of it. With extinction alpha, backscatter beta and
a solid target of differential reflectivity beta_0 at R_0:

    (1) alpha = ln 20 / MOR,  beta = 0.046 / MOR                     (MOR: meteorological optical range)
    (2) hard return:  i_hard = i exp(-2 alpha R_0)
    (3) I(R) = integral_0^{2 tau} sin^2(pi t / 2 tau) exp(-2 alpha r) / r^2 xi(r) dt,  r = R - c t / 2
    (4) soft return:  i_soft = i R_0^2 beta / beta_0 max_{R <= R_0} I(R),  at the range R of the maximum
    (5) the sensor reports the stronger one

xi(r) is the overlap of transmitter and receiver: 0 up to R_1, 1 from R_2 on, linear between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.perturb.weather import (
    Points,
    checked_overlap,
    full_scale,
    moved_along_beams,
    ranges_of,
    under_weather,
)
from opencood.errors import ConfigError
from opencood.registry import register

LIGHT = 299_792_458.0  # m/s
_RANGE_STEP = 0.1  # m, of the table over ranges
_TABLE_END = 50.0  # m; I(R) has its maximum within some metres of the sensor
_PULSE_STEPS = 400


class SoftReturns(NamedTuple):
    """The largest I(R) up to each range, and where it is; all (K,)."""

    ranges: NDArray[np.float64]
    strongest: NDArray[np.float64]
    place: NDArray[np.float64]


@register("perturbation", "fog")
@dataclass(frozen=True)
class Fog:
    """Homogeneous fog for the LiDAR of every agent.

    Attributes:
        visibility: meteorological optical range, metres: the distance at which contrast falls to 5 %.
        pulse_ns: half-power width tau of the pulse, nanoseconds.
        overlap: R_1 and R_2 of xi, metres.
        reflectivity: Gamma of the solid targets; beta_0 = Gamma / pi. The published value is a calibration constant
            (the pulse integral counts seconds).
        scatter: standard deviation of the range of soft returns, metres. The equations put them all where equation (3)
            is largest, a few metres from the sensor; real droplets are no continuum. Ours, off unless given.
        faintest: returns that fog makes fainter than this share of the full scale are lost. Ours, off unless given.
    """

    changes_clouds: ClassVar[bool] = True
    visibility: float = 100.0
    pulse_ns: float = 20.0
    overlap: tuple[float, float] = (0.9, 1.0)
    reflectivity: float = 1e-6
    scatter: float = 0.0
    faintest: float = 0.0

    def __post_init__(self) -> None:
        if not (self.visibility > 0 and self.pulse_ns > 0 and self.reflectivity > 0):
            raise ConfigError(
                f"perturb.fog: visibility {self.visibility:g} m, pulse_ns {self.pulse_ns:g} and reflectivity "
                f"{self.reflectivity:g} must be above 0."
            )
        if self.scatter < 0 or not 0 <= self.faintest < 1:
            raise ConfigError(
                f"perturb.fog: scatter {self.scatter:g} m cannot be below 0, faintest {self.faintest:g} lies in [0, 1)."
            )
        object.__setattr__(self, "overlap", checked_overlap("fog", self.overlap))

    @property
    def attenuation(self) -> float:
        """alpha of equation (1), 1/m."""
        return float(np.log(20) / self.visibility)

    @property
    def backscatter(self) -> float:
        """beta of equation (1), 1/m."""
        return 0.046 / self.visibility

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the frame whose clouds are seen through fog."""
        return under_weather(frame, self.change, draws)

    def change(self, points: Points, generator: np.random.Generator) -> Points:
        """Return what the sensor reports instead of (N, 4) points of a clear day, in the same order."""
        seen, is_soft = self.returns(points)
        if self.scatter:
            seen[is_soft] = self._scattered(seen[is_soft], ranges_of(points)[is_soft], generator)
        threshold = self.faintest * full_scale(points)
        return seen[(seen[:, 3] >= threshold) | (points[:, 3] < threshold)]

    def _scattered(self, soft: Points, targets: NDArray[np.float64], generator: np.random.Generator) -> Points:
        """Soft returns (n, 4) at ranges drawn around theirs, between the sensor's first sight and the target (n,)."""
        ranges = ranges_of(soft)
        drawn = np.clip(ranges + generator.normal(0, self.scatter, len(soft)), self.overlap[0], targets)
        return moved_along_beams(soft, ranges, drawn, soft[:, 3].astype(np.float64))

    def returns(self, points: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Return the (N, 4) points in fog and a mask (N,) of those that the fog itself reflected."""
        ranges, intensity = ranges_of(points), points[:, 3].astype(np.float64)
        table = soft_returns(self.attenuation, self.pulse_ns * 1e-9, self.overlap)
        gain = ranges**2 * (self.backscatter * np.pi / self.reflectivity)
        soft = gain * np.interp(ranges, table.ranges, table.strongest, left=0.0)  # per unit of intensity
        hard = np.exp(-2 * self.attenuation * ranges)
        # Whether the fog outshines the target does not depend on how bright the target is: both grow with i.
        is_soft = soft > hard
        place = table.place[np.searchsorted(table.ranges, ranges[is_soft], side="right") - 1]
        new_ranges = ranges.copy()
        new_ranges[is_soft] = place
        return moved_along_beams(points, ranges, new_ranges, intensity * np.where(is_soft, soft, hard)), is_soft


@lru_cache(maxsize=32)
def soft_returns(attenuation: float, pulse: float, overlap: tuple[float, float]) -> SoftReturns:
    """Return the running maximum of equation (3) over ranges; ``pulse`` is in seconds."""
    ranges = np.arange(1, round(_TABLE_END / _RANGE_STEP) + 1, dtype=np.float64) * _RANGE_STEP
    times = (np.arange(_PULSE_STEPS) + 0.5) * (2 * pulse / _PULSE_STEPS)
    response = channel_response(ranges[:, None] - LIGHT * times / 2, attenuation, overlap)
    integral = (np.sin(np.pi * times / (2 * pulse)) ** 2 * response).sum(axis=1) * (2 * pulse / _PULSE_STEPS)
    strongest = np.maximum.accumulate(integral)
    place = np.maximum.accumulate(np.where(integral >= strongest, ranges, 0.0))
    return SoftReturns(ranges, strongest, place)


def channel_response(
    ranges: NDArray[np.float64], attenuation: float, overlap: tuple[float, float]
) -> NDArray[np.float64]:
    """exp(-2 alpha r) / r^2 xi(r): what remains of a pulse that comes back from ranges in metres."""
    near, far = overlap
    seen = np.clip((ranges - near) / (far - near), 0, 1)
    return np.divide(np.exp(-2 * attenuation * ranges) * seen, ranges**2, out=np.zeros_like(ranges), where=seen > 0)
