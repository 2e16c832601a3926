"""A spinning multi-beam LiDAR: ray casting, drop-out, range noise and intensity.

Sensor frame: x forward, y right, z up (UE axes, ``spec/data.md`` section 1), metres. The sensor stands upright.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opencood.simulation.bodies import Material
from opencood.simulation.boxes import Boxes
from opencood.simulation.ray_kernel import GROUND, NOTHING, cast_columns

# Per material, in the order of ``Material``: reflectivity, and share of returns lost.
_REFLECTIVITY = np.array([0.18, 0.5, 0.22, 0.36, 0.62, 0.4, 0.33, 0.08])
_LOSS = np.array([0.02, 0.02, 0.3, 0.01, 0.02, 0.03, 0.25, 0.08])


@dataclass(frozen=True)
class LidarModel:
    """A sensor type.

    Attributes:
        beams: rows of the scan, spread evenly over the vertical field of view.
        azimuths: columns of one turn.
        lowest, highest: vertical field of view, degrees (OPV2V's sensor: -25 to 2).
        max_range: metres.
        range_noise: standard deviation of the measured distance, metres.
        loss: share of all returns lost at random; grazing and distant returns are lost more often.
    """

    beams: int = 32
    azimuths: int = 1800
    lowest: float = -25.0
    highest: float = 2.0
    max_range: float = 120.0
    range_noise: float = 0.02
    loss: float = 0.02

    @property
    def slopes(self) -> np.ndarray:
        """(beams,) rise per metre of planar distance."""
        return np.tan(np.radians(np.linspace(self.lowest, self.highest, self.beams)))


@dataclass(frozen=True)
class Scan:
    """What the rays met, before any noise.

    Attributes:
        distance: (A, B) metres along the ray.
        hit: (A, B) row of the box, ``GROUND`` or ``NOTHING``.
        incidence: (A, B) cosine between ray and surface normal.
    """

    distance: np.ndarray
    hit: np.ndarray
    incidence: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """Returns of one turn.

    Attributes:
        points: (N, 4) float32 x, y, z, intensity (0 to 1) in the sensor frame.
        owner: (N,) body that each point lies on, ``NO_OWNER`` for the town and the ground.
    """

    points: np.ndarray
    owner: np.ndarray


def cast(
    boxes: Boxes, own: int, origin: np.ndarray, azimuths: np.ndarray, slopes: np.ndarray, max_range: float
) -> Scan:
    """Cast every beam of every column against the scene.

    Args:
        boxes: the scene; boxes of the body ``own`` are not seen.
        own: row of the sensor's own body, or any other negative number than ``NO_OWNER`` for none.
        origin: (3,) world position of the sensor.
        azimuths: (A,) world azimuths in rad, equally spaced over one turn, ascending.
        slopes: (B,) rise per metre.
        max_range: metres along the ray.
    """
    shape = (len(azimuths), len(slopes))
    scan = Scan(np.empty(shape), np.empty(shape, dtype=np.int64), np.empty(shape))
    skip = (boxes.owner == own) & (boxes.owner >= 0)
    cast_columns(
        boxes.geometry,
        skip,
        np.asarray(origin, dtype=np.float64),
        azimuths,
        slopes,
        max_range,
        scan.distance,
        scan.hit,
        scan.incidence,
    )
    return scan


def sweep(model: LidarModel, boxes: Boxes, own: int, origin: np.ndarray, yaw: float, rng: np.random.Generator) -> Sweep:
    """Measure one turn at a world position and heading (rad), with drop-out, range noise and intensity."""
    step = 2 * np.pi / model.azimuths
    local = (np.arange(model.azimuths) + rng.random()) * step - np.pi
    scan = cast(boxes, own, origin, local + yaw, model.slopes, model.max_range)

    column, beam = np.nonzero(scan.hit != NOTHING)
    distance, hit, incidence = (a[column, beam] for a in (scan.distance, scan.hit, scan.incidence))
    ground = hit == GROUND
    material = np.where(ground, int(Material.ASPHALT), boxes.material[hit])
    tint = np.where(ground, 1.0, boxes.geometry[hit, 7])
    owner = np.where(ground, -1, boxes.owner[hit])

    grazing = 0.35 * np.clip(1 - incidence / 0.15, 0, 1) ** 2
    weak = 0.3 * (distance / model.max_range) ** 2
    kept = rng.random(len(hit)) >= model.loss + _LOSS[material] + grazing + weak
    distance = distance + rng.normal(0, model.range_noise, len(hit))
    intensity = _REFLECTIVITY[material] * tint * (0.35 + 0.65 * incidence) * np.exp(-0.006 * distance)
    intensity = np.clip(intensity + rng.normal(0, 0.02, len(hit)), 0, 1)

    planar = distance / np.sqrt(1 + model.slopes**2)[beam]
    points = np.column_stack(
        [planar * np.cos(local[column]), planar * np.sin(local[column]), planar * model.slopes[beam], intensity]
    )
    return Sweep(points[kept].astype(np.float32), owner[kept])
