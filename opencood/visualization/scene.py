"""What one bird's-eye picture shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from opencood.geometry.iou import bev_iou


@dataclass(frozen=True)
class AgentMark:
    """One agent in the ego LiDAR frame.

    Attributes:
        name: how the agent is called in the picture, for example ``ego`` or its folder name.
        x, y: position in metres.
        yaw: heading in radians, from +x towards +y.
        modality: ``m1``, ``m2``...; decides the colour. Empty for homogeneous data sets.
    """

    name: str
    x: float
    y: float
    yaw: float = 0.0
    modality: str = ""


@dataclass(frozen=True)
class BevScene:
    """One frame as seen from above, everything in the ego LiDAR frame, metres.

    Attributes:
        extent: (x_min, y_min, x_max, y_max) of the picture.
        points: (N, 3) or wider, xyz first.
        predictions, ground_truth: (M, 8, 3) corners.
        scores: (M,) of the predictions, or None for no labels.
        point_agents: (N,) index into ``agents`` that measured each point; None colours by height.
        left_hand: the data set has y to the right (OPV2V, V2XSet), so y points down in the picture.
        judged: a detector was asked; otherwise no ground truth is missed.
    """

    extent: tuple[float, float, float, float]
    points: np.ndarray
    predictions: np.ndarray
    ground_truth: np.ndarray
    scores: np.ndarray | None = None
    agents: tuple[AgentMark, ...] = ()
    point_agents: np.ndarray | None = None
    left_hand: bool = False
    title: str = ""
    subtitle: str = field(default="")
    judged: bool = True

    def found(self, iou: float = 0.5) -> np.ndarray:
        """(K,) True for ground truths that some prediction overlaps with at least ``iou`` (BEV)."""
        if not self.judged:
            return np.ones(len(self.ground_truth), bool)
        if not len(self.predictions) or not len(self.ground_truth):
            return np.zeros(len(self.ground_truth), bool)
        return np.asarray(bev_iou(self.ground_truth, self.predictions)).max(axis=1) >= iou


def extent_of(range6: np.ndarray | list[float]) -> tuple[float, float, float, float]:
    """Picture extent of a published range ``[x0, y0, z0, x1, y1, z1]``."""
    x0, y0, _, x1, y1, _ = (float(value) for value in range6)
    return x0, y0, x1, y1
