"""LiDAR in falling snow: the strongest of a target's return and those of single flakes in the beam.

Size distribution: Sekhon, Srivastava: Snow Size Spectra and Radar Reflectivity, Journal of the Atmospheric Sciences
27, 1970. Optics: the LiDAR equation of Rasshofer, Spies, Spies, Advances in Radio Science 9, 2011. Snow as flakes from
such a distribution, whose strongest return competes with the target's, follows Kilic et al.: Lidar Light Scattering
Augmentation (LISA), arXiv 2107.07004, 2021, and Hahner et al.: LiDAR Snowfall Simulation for Robust 3D Object
Detection, CVPR 2022. Instead of drawing every flake, the strongest one is drawn from its exact distribution.

The equations, numbered as in docs/perturbations.md. D is the diameter of a melted flake in mm, d that of the flake, at
a snowfall rate S (mm of water per hour) and a flake density rho (kg/m^3):

    (6)  N(D) = N_0 exp(-Lambda D),  N_0 = 2500 S^-0.94 / (mm m^3),  Lambda = 2.29 S^-0.45 / mm
    (7)  d = D (1000 / rho)^(1/3)
    (8)  alpha = integral 2 (pi d^2 / 4) N(D) dD = pi (1000 / rho)^(2/3) N_0 / Lambda^3 10^-6 / m
    (9)  target:  s_0 = i exp(-2 alpha R_0) / R_0^2
    (10) flake at range r:  s = Gamma min(1, (d / theta r)^2) xi(r) exp(-2 alpha r) / r^2
    (11) M(s, R) = integral_0^R pi/4 (theta r)^2 N(flakes at r stronger than s) dr;  P(strongest < s) = exp(-M(s, R))
    (12) the sensor reports the strongest of s_0 and the flakes; its intensity is s times the squared range

theta is the full divergence of the beam, Gamma the reflectivity of snow, xi the overlap as in fog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.perturb.fog import channel_response
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

_WATER = 1000.0  # kg/m^3
_RANGE_STEP = 0.1  # m, of the table
_TABLE_END = 150.0  # m; flakes farther away are too faint to matter
_STRENGTHS = np.geomspace(1e2, 1e-8, 300)  # of returns, descending; a perfect target at 1 m has strength 1
_ASSUMED_REFLECTIVITY = 0.3  # of targets in clouds that carry no intensity


class FlakeTable(NamedTuple):
    """Equation (11) on a grid.

    Attributes:
        ranges: (J,) upper ends of the range cells, metres.
        counts: (K, J) flakes expected in the beam nearer than a range and stronger than each of ``_STRENGTHS``.
    """

    ranges: NDArray[np.float64]
    counts: NDArray[np.float64]


@register("perturbation", "snow")
@dataclass(frozen=True)
class Snow:
    """Falling snow for the LiDAR of every agent.

    Attributes:
        rate: snowfall S, mm of water per hour; 0.5 is light, 2.5 heavy.
        divergence: full opening angle theta of a beam, radians.
        density: rho of the flakes, kg/m^3.
        reflectivity: Gamma of the flakes.
        faintest: echoes of flakes with less intensity are not recognised, as a share of the full scale. Without such a
            bound every tiny flake just in front of the sensor would outshine a target far away.
        overlap: ranges in metres up to which the receiver sees nothing, and from which it sees everything.
    """

    changes_clouds: ClassVar[bool] = True
    rate: float = 1.0
    divergence: float = 3e-3
    density: float = 100.0
    reflectivity: float = 0.9
    faintest: float = 0.05
    overlap: tuple[float, float] = (0.9, 1.0)

    def __post_init__(self) -> None:
        positive = (self.rate, self.divergence, self.density, self.reflectivity)
        if not (min(positive) > 0 and self.faintest >= 0):
            raise ConfigError(
                f"perturb.snow: rate {self.rate:g} mm/h, divergence {self.divergence:g}, density {self.density:g} and "
                f"reflectivity {self.reflectivity:g} must be above 0, faintest {self.faintest:g} not below."
            )
        object.__setattr__(self, "overlap", checked_overlap("snow", self.overlap))

    @property
    def spectrum(self) -> tuple[float, float]:
        """N_0 in 1/(mm m^3) and Lambda in 1/mm, equation (6)."""
        return 2500 * self.rate**-0.94, 2.29 * self.rate**-0.45

    @property
    def growth(self) -> float:
        """Diameter of a flake over that of its drop of water, equation (7)."""
        return (_WATER / self.density) ** (1 / 3)

    @property
    def attenuation(self) -> float:
        """alpha of equation (8), 1/m."""
        number, slope = self.spectrum
        return np.pi * self.growth**2 * number / slope**3 * 1e-6

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the frame whose clouds are seen through snow."""
        return under_weather(frame, self.change, draws)

    def change(self, points: Points, generator: np.random.Generator) -> Points:
        """Return what the sensor reports instead of (N, 4) points of a clear day, in the same order."""
        return self.returns(points, generator)[0]

    def returns(self, points: Points, generator: np.random.Generator) -> tuple[Points, NDArray[np.bool_]]:
        """Return the (N, 4) points in snow and a mask (N,) of those that a flake reflected."""
        ranges, scale = ranges_of(points), full_scale(points)
        brightness = points[:, 3].astype(np.float64) / scale
        has_intensity = bool(brightness.any())
        hard = (brightness if has_intensity else _ASSUMED_REFLECTIVITY) * np.exp(-2 * self.attenuation * ranges)
        strength, place = self._strongest_flakes(ranges, generator)
        is_flake = strength * ranges**2 > hard
        seen = np.where(is_flake, strength * place**2, hard) if has_intensity else brightness
        return moved_along_beams(points, ranges, np.where(is_flake, place, ranges), seen * scale), is_flake

    def _strongest_flakes(
        self, ranges: NDArray[np.float64], generator: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Strength and range (N,) of the strongest flake in each beam up to its target; strength 0 where none is."""
        table = flake_table(self)
        # One uniform number per beam decides how strong its strongest flake is, another where it is.
        chance, where = generator.random(len(ranges)), generator.random(len(ranges))
        column = np.searchsorted(table.ranges, ranges, side="right") - 1  # whole cells in front of the target
        reached = np.append(table.counts, np.zeros((len(table.counts), 1)), axis=1).T  # row -1: no cell at all
        level = _first_at_least(lambda k: reached[column, k], -np.log1p(-chance), len(_STRENGTHS))
        exists = level < len(_STRENGTHS)
        level = np.where(exists, level, len(_STRENGTHS) - 1)
        above = np.maximum(level - 1, 0)

        def between(cell: NDArray[np.int64]) -> NDArray[np.float64]:
            """Flakes up to a cell whose strength lies in the chosen level."""
            return table.counts[level, cell] - np.where(level > 0, table.counts[above, cell], 0.0)

        last = np.maximum(column, 0)
        cell = np.minimum(_first_at_least(between, where * between(last), len(table.ranges)), last)
        place = table.ranges[cell] - _RANGE_STEP / 2
        return np.where(exists & (column >= 0), _STRENGTHS[level], 0.0), place


@lru_cache(maxsize=8)
def flake_table(snow: Snow) -> FlakeTable:
    """Return equation (11) for a snowfall."""
    number, slope = snow.spectrum
    ranges = np.arange(1, round(_TABLE_END / _RANGE_STEP) + 1, dtype=np.float64) * _RANGE_STEP
    middle = ranges - _RANGE_STEP / 2
    # Strength of a flake that fills the beam.
    full = snow.reflectivity * channel_response(middle, snow.attenuation, snow.overlap)
    wanted = np.maximum(_STRENGTHS[:, None], snow.faintest / middle**2)
    share = np.divide(wanted, full, out=np.full((len(_STRENGTHS), len(ranges)), np.inf), where=full > 0)
    beam = snow.divergence * middle * 1000  # mm
    smallest = np.sqrt(share) * beam / snow.growth  # melted diameter of a flake just strong enough, mm
    density = np.where(share <= 1, number / slope * np.exp(-slope * smallest), 0.0)  # 1/m^3
    volume = np.pi / 4 * (snow.divergence * middle) ** 2 * _RANGE_STEP  # m^3
    return FlakeTable(ranges, np.cumsum(density * volume, axis=1))


def _first_at_least(
    values: Callable[[NDArray[np.int64]], NDArray[np.float64]], wanted: NDArray[np.float64], length: int
) -> NDArray[np.int64]:
    """For each of many ascending sequences the first position whose value is at least the wanted one, or ``length``.

    ``values(positions)`` gives the value (N,) of each sequence at one position (N,); found by halving intervals.
    """
    low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), length, np.int64)
    for _ in range(length.bit_length()):
        middle = (low + high) // 2
        enough = (middle < length) & (values(np.minimum(middle, length - 1)) >= wanted)
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        low = np.minimum(low, high)
    return high
