"""Limits of what sensors, maps and calibrations can say; beyond them a file is damaged, whatever its format.

They are wide on purpose: strange data are for ``check_dataset`` to tell, here only the impossible is refused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORLD_METRES = 1e8  # no map projection reaches farther
SENSOR_RANGE = 1e5  # metres of a point from its sensor; no LiDAR measures farther, and no intensity has more steps
SIDE_METRES = 1e3  # longest side of a box
_ROTATION_TOLERANCE = 0.05  # of the entries of R R^T; published calibrations are rounded to a few digits
_FOCAL_PIXELS = 1e6


def in_world(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Return coordinates in metres or angles in degrees as they are.

    Raises:
        ValueError: a number is NaN, infinite or absurdly large.
    """
    if not (np.abs(values) <= WORLD_METRES).all():
        raise ValueError(f"{what} must be finite numbers of at most {WORLD_METRES:.0e}, found {_worst(values):g}")
    return values


def sides(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Return lengths of sides of boxes in metres as they are.

    Raises:
        ValueError: a length is NaN, negative or absurdly large.
    """
    if not ((values >= 0) & (values <= SIDE_METRES)).all():
        raise ValueError(f"{what} must be lengths from 0 to {SIDE_METRES:g} m, found {_worst(values):g}")
    return values


def rigid(matrix: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Return a (4, 4) transform as it is.

    Raises:
        ValueError: it is no rotation with a translation in metres.
    """
    in_world(matrix, what)
    rotation = matrix[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0 or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ValueError(f"{what} must be a rotation and a translation, found rows {np.round(matrix, 4).tolist()}")
    return matrix


def camera_matrix(matrix: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Return a (3, 3) camera matrix in pixels as it is.

    Raises:
        ValueError: a focal length is not positive or absurd, or the last row is not 0, 0, 1.
    """
    focal = np.array([matrix[0, 0], matrix[1, 1]])
    within = (np.abs(matrix) <= _FOCAL_PIXELS).all()
    if not within or not (focal > 0).all() or not np.allclose(matrix[2], [0, 0, 1]):
        raise ValueError(
            f"{what} must be a camera matrix (positive focal lengths, last row 0 0 1), found {matrix.tolist()}"
        )
    return matrix


def _worst(values: NDArray[np.float64]) -> float:
    """A number that shows what is wrong: the first NaN, else the one of largest magnitude (or the most negative)."""
    flat = values.reshape(-1)
    invalid = flat[np.isnan(flat)]
    return float(invalid[0] if len(invalid) else flat[np.argmax(np.abs(flat))])
