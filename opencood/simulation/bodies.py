"""Bodies of road users: several boxes (hood, cabin, cargo...) that together fill one labelled bounding box.

Body frame: x forward, y right, z up, origin on the ground below the centre of the bounding box, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Material(IntEnum):
    """What a surface is made of; the LiDAR model gives each its reflectivity and drop-out."""

    ASPHALT = 0
    PAINT = 1
    GLASS = 2
    CONCRETE = 3
    METAL = 4
    CLOTH = 5
    FOLIAGE = 6
    RUBBER = 7


# (from, to) along x, width, (from, to) along z, all as fractions of length, width and height.
_Part = tuple[float, float, float, float, float, Material]
_P, _G, _R, _C, _M = Material.PAINT, Material.GLASS, Material.RUBBER, Material.CLOTH, Material.METAL


@dataclass(frozen=True)
class Shape:
    """A family of bodies: ranges of full size (metres) and the boxes that make one up, as fractions of that size."""

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    parts: tuple[_Part, ...]
    speed: tuple[float, float] = (7.0, 12.5)


_UNDERBODY: _Part = (-0.42, 0.42, 0.9, 0.0, 0.16, _R)

VEHICLE_SHAPES: dict[str, Shape] = {
    "hatchback": Shape(
        (3.9, 4.3),
        (1.65, 1.85),
        (1.45, 1.6),
        (_UNDERBODY, (-0.5, 0.5, 1.0, 0.16, 0.62, _P), (-0.48, 0.18, 0.86, 0.62, 1.0, _G)),
    ),
    "sedan": Shape(
        (4.4, 4.9),
        (1.75, 2.0),
        (1.42, 1.56),
        (_UNDERBODY, (-0.5, 0.5, 1.0, 0.16, 0.62, _P), (-0.32, 0.2, 0.86, 0.62, 1.0, _G)),
    ),
    "suv": Shape(
        (4.4, 4.9),
        (1.85, 2.1),
        (1.62, 1.85),
        (_UNDERBODY, (-0.5, 0.5, 1.0, 0.16, 0.6, _P), (-0.49, 0.16, 0.88, 0.6, 1.0, _G)),
    ),
    "pickup": Shape(
        (4.7, 5.2),
        (1.8, 2.0),
        (1.7, 1.85),
        (_UNDERBODY, (-0.5, 0.5, 1.0, 0.2, 0.58, _P), (-0.12, 0.24, 0.88, 0.58, 1.0, _G)),
    ),
    "van": Shape(
        (4.7, 5.3),
        (1.85, 2.05),
        (1.9, 2.2),
        (_UNDERBODY, (-0.5, 0.32, 1.0, 0.16, 1.0, _P), (0.32, 0.5, 0.94, 0.16, 0.52, _P)),
    ),
    "truck": Shape(
        (6.5, 8.6),
        (2.3, 2.5),
        (2.8, 3.4),
        (
            (-0.46, 0.46, 0.8, 0.0, 0.25, _R),
            (0.27, 0.5, 0.96, 0.14, 0.8, _P),
            (-0.5, 0.24, 1.0, 0.25, 1.0, _M),
        ),
        speed=(6.0, 10.0),
    ),
}

PEDESTRIAN_SHAPES: dict[str, Shape] = {
    "pedestrian": Shape(
        (0.45, 0.65),
        (0.5, 0.65),
        (1.55, 1.9),
        ((-0.35, 0.35, 0.7, 0.0, 0.48, _C), (-0.5, 0.5, 1.0, 0.48, 0.85, _C), (-0.2, 0.2, 0.4, 0.85, 1.0, _C)),
        speed=(0.9, 1.6),
    ),
}

# The three super-classes of V2X-Real, in the order of its class numbers, and the shapes that are no plain vehicle.
CLASSES = ("vehicle", "pedestrian", "truck")
_CLASS_OF_KIND = {"pedestrian": "pedestrian", "truck": "truck", "van": "truck"}

# Trucks stay a minority: the published post-processing drops boxes longer than 6 m (spec/evaluation.md section 3).
TRAFFIC_MIX = {"hatchback": 0.24, "sedan": 0.26, "suv": 0.2, "pickup": 0.06, "van": 0.1, "truck": 0.14}
PARKED_MIX = {"hatchback": 0.28, "sedan": 0.28, "suv": 0.22, "pickup": 0.06, "van": 0.1, "truck": 0.06}


@dataclass(frozen=True)
class Body:
    """One road user's shape.

    Attributes:
        kind: name of its shape.
        half_size: (3,) half length, width and height of the bounding box, metres.
        parts: (P, 6) boxes as x0, x1, y0, y1, z0, z1 in the body frame.
        materials: (P,) ``Material`` values.
        tint: reflectivity factor of its painted or woven surfaces.
        cruise_speed: speed it likes, m/s.
    """

    kind: str
    half_size: np.ndarray
    parts: np.ndarray
    materials: np.ndarray
    tint: float
    cruise_speed: float
    is_vehicle: bool = field(default=True)


def class_of(kind: str) -> str:
    """The super-class (one of ``CLASSES``) of a shape's name; vans count as trucks, as in V2X-Real."""
    return _CLASS_OF_KIND.get(kind, "vehicle")


def draw_body(kind: str, rng: np.random.Generator) -> Body:
    """Draw one body of a shape family, its size, tint and cruising speed."""
    is_vehicle = kind in VEHICLE_SHAPES
    shape = VEHICLE_SHAPES[kind] if is_vehicle else PEDESTRIAN_SHAPES[kind]
    size = np.array([rng.uniform(*shape.length), rng.uniform(*shape.width), rng.uniform(*shape.height)])
    fractions = np.array([part[:5] for part in shape.parts])
    half_width = fractions[:, 2] * size[1] / 2
    parts = np.column_stack(
        [fractions[:, :2] * size[0], -half_width, half_width, fractions[:, 3:] * size[2]],
    )
    return Body(
        kind=kind,
        half_size=size / 2,
        parts=parts,
        materials=np.array([part[5] for part in shape.parts]),
        tint=float(rng.uniform(0.5, 1.6)),
        cruise_speed=float(rng.uniform(*shape.speed)),
        is_vehicle=is_vehicle,
    )


def draw_vehicle(mix: dict[str, float], rng: np.random.Generator) -> Body:
    """Draw a vehicle from a mix of shape families (name to share; the shares add up to 1)."""
    return draw_body(str(rng.choice(list(mix), p=list(mix.values()))), rng)
