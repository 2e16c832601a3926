"""The scene as the LiDAR meets it: upright boxes with a heading, a material and an owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opencood.simulation.bodies import Body, Material

NO_OWNER = -1


@dataclass(frozen=True)
class Boxes:
    """Upright boxes.

    Attributes:
        geometry: (K, 8) float64: centre x, centre y, yaw (rad), half length, half width, bottom z, top z, tint.
        material: (K,) ``Material`` values.
        owner: (K,) row of the body a box belongs to, or ``NO_OWNER`` for what belongs to the town.
    """

    geometry: np.ndarray
    material: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.geometry)

    @property
    def footprints(self) -> np.ndarray:
        """Rectangles (K, 5) on the ground."""
        return self.geometry[:, :5]

    def __add__(self, other: Boxes) -> Boxes:
        return Boxes(
            np.concatenate([self.geometry, other.geometry]),
            np.concatenate([self.material, other.material]),
            np.concatenate([self.owner, other.owner]),
        )


def town_boxes(rows: Sequence[tuple[float, ...]], material: Material) -> Boxes:
    """Boxes of the town from rows ``x, y, yaw, half length, half width, bottom, top, tint``."""
    geometry = np.array(rows, dtype=np.float64).reshape(-1, 8)
    count = len(geometry)
    return Boxes(geometry, np.full(count, int(material)), np.full(count, NO_OWNER))


@dataclass(frozen=True)
class PartTable:
    """The parts of many bodies, stacked once so that placing them is one vector operation."""

    parts: np.ndarray
    material: np.ndarray
    tint: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, bodies: Sequence[Body]) -> PartTable:
        """Stack the parts of bodies; the owner is the index in the sequence."""
        counts = [len(body.parts) for body in bodies]
        return cls(
            parts=np.concatenate([np.zeros((0, 6)), *(body.parts for body in bodies)]),
            material=np.concatenate([np.zeros(0, dtype=int), *(body.materials for body in bodies)]),
            tint=np.repeat(np.array([body.tint for body in bodies], dtype=np.float64), counts),
            owner=np.repeat(np.arange(len(bodies)), counts),
        )

    def placed(self, poses: np.ndarray, present: np.ndarray) -> Boxes:
        """World boxes of the bodies at poses (N, 3) = x, y, yaw (rad), of those that are ``present`` (N,) bool."""
        keep = present[self.owner]
        part, owner = self.parts[keep], self.owner[keep]
        x, y, yaw = poses[owner].T
        along, across = part[:, 0:2].mean(axis=1), part[:, 2:4].mean(axis=1)
        cos, sin = np.cos(yaw), np.sin(yaw)
        geometry = np.column_stack(
            [
                x + along * cos - across * sin,
                y + along * sin + across * cos,
                yaw,
                (part[:, 1] - part[:, 0]) / 2,
                (part[:, 3] - part[:, 2]) / 2,
                part[:, 4],
                part[:, 5],
                self.tint[keep],
            ]
        )
        return Boxes(geometry, self.material[keep], owner)
