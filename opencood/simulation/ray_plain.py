"""The slow, plain twin of the ray kernels: every ray against every box by the three-dimensional slab test (NumPy).

It shares no code with the kernels and is their oracle in tests and its baseline in benchmarks.
"""

from __future__ import annotations

import numpy as np


def cast_plain(
    boxes: np.ndarray, origin: np.ndarray, azimuths: np.ndarray, slopes: np.ndarray, max_range: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cast rays against boxes (K, 7+) and the ground z = 0.

    Returns:
        distance (A, B) in metres (``max_range`` where nothing is hit) and hit (A, B): box row, -1 ground, -2 nothing.
    """
    planar = np.stack([np.cos(azimuths), np.sin(azimuths)], axis=-1)[:, None].repeat(len(slopes), axis=1)
    rise = np.broadcast_to(slopes[:, None], (len(azimuths), len(slopes), 1))
    direction = np.concatenate([planar, rise], axis=-1)
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    return first_met(boxes, origin, direction, max_range)


def first_met(
    boxes: np.ndarray, origin: np.ndarray, direction: np.ndarray, max_range: float
) -> tuple[np.ndarray, np.ndarray]:
    """What rays with directions (A, B, 3) meet first; distances are in multiples of the direction.

    Returns:
        distance and hit, as ``cast_plain``.
    """
    distance = np.full(direction.shape[:2], max_range)
    hit = np.full(direction.shape[:2], -2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(direction[..., 2] < 0, -origin[2] / direction[..., 2], np.inf)
        hit[ground <= max_range] = -1
        distance = np.minimum(distance, ground)
        for k, box in enumerate(boxes):
            near = _slab_entry(box, origin, direction)
            closer = near < distance
            distance[closer], hit[closer] = near[closer], k
    return distance, hit


def _slab_entry(box: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Distance at which rays (A, B, 3) enter a box from outside, infinity where they miss or start inside."""
    cos, sin = np.cos(box[2]), np.sin(box[2])
    into_box = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    centre = np.array([box[0], box[1], (box[5] + box[6]) / 2])
    half = np.array([box[3], box[4], (box[6] - box[5]) / 2])
    start, along = into_box @ (origin - centre), direction @ into_box.T
    first, second = (-half - start) / along, (half - start) / along
    near = np.minimum(first, second).max(axis=-1)
    far = np.maximum(first, second).min(axis=-1)
    return np.where((near <= far) & (near > 0), near, np.inf)
