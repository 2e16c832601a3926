"""What the things of a scenario look like: colours, looks and the light, drawn once for a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from opencood.simulation.bodies import Body, Material
from opencood.simulation.boxes import Boxes
from opencood.simulation.roads import Roads


class Look(IntEnum):
    """Which texture a box gets."""

    PLAIN = 0
    FACADE = 1
    FOLIAGE = 2
    KIOSK = 3
    CAR = 4
    VAN = 5
    TRUCK = 6
    PERSON = 7


# Linear colours of cars and their shares on European roads.
_PAINTS = np.array(
    [
        [0.80, 0.80, 0.79], [0.03, 0.03, 0.035], [0.16, 0.17, 0.18], [0.45, 0.46, 0.47], [0.03, 0.09, 0.32],
        [0.42, 0.03, 0.03], [0.05, 0.18, 0.10], [0.60, 0.36, 0.05], [0.28, 0.20, 0.13], [0.10, 0.30, 0.45],
    ]
)  # fmt: skip
_PAINT_SHARES = np.array([0.2, 0.17, 0.17, 0.12, 0.12, 0.09, 0.04, 0.03, 0.03, 0.03])
_WALLS = np.array(
    [
        [0.55, 0.50, 0.42],
        [0.36, 0.14, 0.09],
        [0.62, 0.60, 0.57],
        [0.48, 0.38, 0.24],
        [0.30, 0.32, 0.34],
        [0.5, 0.3, 0.2],
    ]
)
_SKIN = np.array([[0.55, 0.36, 0.26], [0.30, 0.17, 0.10], [0.65, 0.45, 0.35]])
_LOOK_OF_KIND = {"van": Look.VAN, "truck": Look.TRUCK, "pedestrian": Look.PERSON}
_TRUNK_WIDTH, _KIOSK_HEIGHT = 0.3, 3.1


@dataclass(frozen=True)
class Light:
    """Sun and sky of one day.

    Attributes:
        to_sun: (3,) unit vector.
        sun, zenith, horizon: (3,) linear colours.
        clouds: share of the sky that is covered, 0 to 1.
        seed: of the clouds.
    """

    to_sun: np.ndarray
    sun: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    seed: int


@dataclass(frozen=True)
class Coats:
    """Looks of boxes, or of bodies.

    Attributes:
        look: (K,) ``Look`` values.
        colour, second: (K, 3) linear colours.
        seed: (K,) int64 of details such as the windows of a house.
    """

    look: np.ndarray
    colour: np.ndarray
    second: np.ndarray
    seed: np.ndarray


@dataclass(frozen=True)
class Appearance:
    """All looks of one scenario: of the town by its rows, of the bodies by theirs, of the light and the ground."""

    town: Coats
    bodies: Coats
    half_sizes: np.ndarray
    light: Light
    ground: np.ndarray

    def coats(self, boxes: Boxes, poses: np.ndarray) -> tuple[Coats, np.ndarray]:
        """Looks of the boxes of a scene whose first rows are the town, and the body (K, 5) that each belongs to.

        A body is x, y, half length, half width, height in metres; poses (N, 3) are those of all bodies.
        """
        houses = len(self.town.look)
        owner = boxes.owner[houses:]
        body = np.zeros((len(boxes), 5))
        body[houses:, :2], body[houses:, 2:4] = poses[owner, :2], self.half_sizes[owner, :2]
        body[houses:, 4] = 2 * self.half_sizes[owner, 2]
        joined = [
            np.concatenate([of_town, of_bodies[owner]])
            for of_town, of_bodies in zip(_fields(self.town), _fields(self.bodies), strict=True)
        ]
        return Coats(*joined), body


def draw_appearance(roads: Roads, town: Boxes, bodies: Sequence[Body], rng: np.random.Generator) -> Appearance:
    """Draw the looks of a scenario."""
    return Appearance(
        town=_town_coats(town, rng),
        bodies=_body_coats(bodies, rng),
        half_sizes=np.array([body.half_size for body in bodies]).reshape(-1, 3),
        light=_light(rng),
        ground=np.array(
            [*roads.centre, roads.carriageway, roads.kerb, roads.corridor, roads.mouth, roads.length, roads.lanes,
             *roads.arms]
        ),
    )  # fmt: skip


def _fields(coats: Coats) -> tuple[np.ndarray, ...]:
    return coats.look, coats.colour, coats.second, coats.seed


def _town_coats(town: Boxes, rng: np.random.Generator) -> Coats:
    count, material, geometry = len(town), town.material, town.geometry
    thin = geometry[:, 3] < _TRUNK_WIDTH
    look = np.where(material == Material.FOLIAGE, Look.FOLIAGE, np.where(thin, Look.PLAIN, Look.FACADE))
    look[(look == Look.FACADE) & (geometry[:, 6] < _KIOSK_HEIGHT)] = Look.KIOSK
    colour = _WALLS[rng.integers(len(_WALLS), size=count)] * rng.uniform(0.75, 1.2, (count, 1))
    leaves = np.array([0.06, 0.13, 0.03]) * rng.uniform(0.7, 1.5, (count, 3))
    colour = np.where((look == Look.FOLIAGE)[:, None], leaves, colour)
    colour = np.where((thin & (material == Material.METAL))[:, None], [0.2, 0.21, 0.21], colour)
    colour = np.where((thin & (material == Material.CONCRETE))[:, None], [0.12, 0.08, 0.05], colour)
    second = rng.uniform(0.05, 0.6, (count, 3))
    return Coats(look, colour, second, rng.integers(1 << 30, size=count))


def _body_coats(bodies: Sequence[Body], rng: np.random.Generator) -> Coats:
    count = len(bodies)
    look = np.array([_LOOK_OF_KIND.get(body.kind, Look.CAR) for body in bodies], dtype=np.int64)
    paint = _PAINTS[rng.choice(len(_PAINTS), size=count, p=_PAINT_SHARES)] * rng.uniform(0.85, 1.15, (count, 3))
    clothes = rng.uniform(0.02, 0.6, (count, 3)) ** 1.5
    cargo = np.where(
        rng.random((count, 1)) < 0.6, rng.uniform(0.5, 0.8, (count, 1)), rng.uniform(0.05, 0.6, (count, 3))
    )
    is_person = (look == Look.PERSON)[:, None]
    skin = _SKIN[rng.integers(len(_SKIN), size=count)]
    return Coats(
        look,
        np.where(is_person, clothes, paint),
        np.where(is_person, skin, cargo),
        rng.integers(1 << 30, size=count),
    )


def _light(rng: np.random.Generator) -> Light:
    """A day between clear and overcast; the sun neither low nor overhead."""
    clouds = float(rng.uniform(0.1, 0.95))
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(30, 65))
    strength = 2.2 * (1 - clouds) ** 0.7
    blue, grey = np.array([0.22, 0.42, 0.85]), np.array([0.62, 0.65, 0.70])
    return Light(
        to_sun=np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]),
        sun=strength * np.array([1.0, 0.93, 0.82]),
        zenith=0.9 * (blue * (1 - clouds) + grey * clouds),
        horizon=np.array([0.78, 0.84, 0.92]) * (1 - clouds) + np.array([0.72, 0.74, 0.77]) * clouds,
        clouds=clouds,
        seed=int(rng.integers(1 << 30)),
    )
