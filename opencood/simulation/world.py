"""The town around the junction: buildings, trees, lamp posts, parked vehicles. Nothing in it moves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from opencood.simulation import rectangles
from opencood.simulation.bodies import PARKED_MIX, Body, Material, draw_vehicle
from opencood.simulation.boxes import Boxes, town_boxes
from opencood.simulation.paths import Paths
from opencood.simulation.roads import FOOTWAY_WIDTH, PARKING_WIDTH, Roads, draw_roads, foot_paths, lane_paths

_POLE_HEIGHT = 6.0


@dataclass(frozen=True)
class World:
    """A static scene and the ways through it.

    Attributes:
        roads: the road plan.
        lanes, footways: paths of vehicles and of pedestrians.
        town: buildings, trees and poles.
        parked: bodies that stand still, at ``parked_poses`` (N, 3) = x, y, yaw (rad).
        poles: (2, 3) x, y, yaw (rad) of posts at two corners of the junction that can carry roadside units.
    """

    roads: Roads
    lanes: Paths
    footways: Paths
    town: Boxes
    parked: tuple[Body, ...]
    parked_poses: np.ndarray
    poles: np.ndarray

    @property
    def pole_height(self) -> float:
        """Height of a roadside unit's sensor, metres."""
        return _POLE_HEIGHT


def draw_world(rng: np.random.Generator, road_type: str = "mixed") -> World:
    """Draw a town on roads of a type: the same generator state gives the same town."""
    roads = draw_roads(rng, road_type)
    buildings, lot_poses = _plots(roads, rng)
    parked, poses = _parked(roads, lot_poses, rng)
    return World(
        roads=roads,
        lanes=lane_paths(roads),
        footways=foot_paths(roads),
        town=town_boxes(buildings, Material.CONCRETE) + _street_furniture(roads, rng),
        parked=parked,
        parked_poses=poses,
        poles=_poles(roads, rng),
    )


def _plots(roads: Roads, rng: np.random.Generator) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Fill both sides of every arm with buildings and now and then a car park.

    Returns:
        building rows for ``town_boxes`` and poses of the car park's bays.
    """
    taken, buildings, bays = roads.corridors(), [], []
    for arm, heading in enumerate(roads.arms):
        for side in (-1, 1):
            along = roads.corridor
            while along < roads.length + 5:
                half_length, half_depth = rng.uniform(4, 11), rng.uniform(4, 7)
                setback = rng.uniform(0.1, 1.5)
                centre = roads.place(arm, along + half_length, side * (roads.corridor + setback + half_depth))
                plot = np.array([[*centre, heading, half_length, half_depth]])
                if rectangles.overlaps(plot, taken).any():
                    along += 1.5
                    continue
                taken = np.concatenate([taken, plot])
                if rng.random() < 0.12:
                    bays += _bays(plot[0], rng)
                else:
                    buildings.append((*plot[0], 0.0, rng.uniform(4, 18), rng.uniform(0.6, 1.3)))
                along += 2 * half_length + rng.choice([0.3, 2.0, 5.0])
    return buildings, bays


def _bays(plot: np.ndarray, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Poses (x, y, yaw) of cars that stand side by side on a plot, nose in or out, straight or slanted."""
    x, y, heading, half_length, half_depth = plot
    slant = heading + rng.choice([-1, 1]) * np.radians(rng.uniform(50, 90))
    offsets = np.arange(-half_length + 2.6, half_length - 2.5, 3.4)
    offsets = offsets[rng.random(len(offsets)) < 0.7] if half_depth > 3 else offsets[:0]
    flips = rng.choice([0.0, np.pi], size=len(offsets))
    return [(x + o * np.cos(heading), y + o * np.sin(heading), slant + f) for o, f in zip(offsets, flips, strict=True)]


def _parked(
    roads: Roads, lot_poses: list[tuple[float, ...]], rng: np.random.Generator, most: int = 15
) -> tuple[tuple[Body, ...], np.ndarray]:
    """Vehicles along the kerbs and on car parks, none overlapping another."""
    share = rng.uniform(0.15, 0.5)
    wanted = list(lot_poses[:8])
    for arm, heading in enumerate(roads.arms):
        for side in (-1, 1):
            along = roads.mouth + 9
            while along < roads.length - 9:
                if rng.random() < share:
                    place = roads.place(arm, along, side * (roads.carriageway + PARKING_WIDTH / 2))
                    wanted.append((*place, heading + (side < 0) * np.pi + rng.normal(0, 0.02)))
                along += rng.uniform(6, 9)
    bodies: list[Body] = []
    poses = np.zeros((0, 3))
    footprints = np.zeros((0, 5))
    for index in rng.permutation(len(wanted)):
        body = draw_vehicle(PARKED_MIX, rng)
        footprint = np.array([[*wanted[index], *body.half_size[:2]]])
        if len(bodies) < most and not rectangles.overlaps(footprint, footprints, margin=0.3).any():
            bodies.append(body)
            poses, footprints = np.vstack([poses, wanted[index]]), np.vstack([footprints, footprint])
    return tuple(bodies), poses


def _street_furniture(roads: Roads, rng: np.random.Generator) -> Boxes:
    """Lamp posts, trees and kiosks along the footways."""
    posts, trunks, crowns, kiosks = [], [], [], []
    for arm in range(len(roads.arms)):
        for side in (-1, 1):
            for along in np.arange(roads.mouth + 5, roads.length, 11.0) + rng.uniform(-2, 2):
                spot = roads.place(arm, along, side * (roads.kerb + FOOTWAY_WIDTH - 0.6))
                kind, turn = rng.choice(4), rng.uniform(0, np.pi)
                if kind == 0:
                    posts.append((*spot, turn, 0.09, 0.09, 0.0, 6.5, 1.0))
                elif kind == 1:
                    crown = rng.uniform(0.9, 1.5)
                    trunks.append((*spot, turn, 0.16, 0.16, 0.0, 2.6, 0.8))
                    crowns.append((*spot, turn, crown, crown, 2.4, 2.4 + 2.4 * crown, 1.0))
                elif kind == 2:
                    kiosks.append((*spot, roads.arms[arm], rng.uniform(0.8, 2.0), 0.5, 0.0, rng.uniform(2.2, 3.0), 1.0))
    materials = (Material.METAL, Material.CONCRETE, Material.FOLIAGE, Material.CONCRETE)
    rows = (posts, trunks, crowns, kiosks)
    return reduce(add, (town_boxes(some, material) for some, material in zip(rows, materials, strict=True)))


def _poles(roads: Roads, rng: np.random.Generator) -> np.ndarray:
    """Posts on the footway at a random corner and across the junction from it, facing the middle."""
    count = len(roads.arms)
    first = int(rng.integers(count))
    spots = np.array([roads.place(arm, roads.mouth + 1.0, roads.corridor - 0.3) for arm in (first, first - count // 2)])
    facing = roads.centre - spots
    return np.column_stack([spots, np.arctan2(facing[:, 1], facing[:, 0])])
