"""Labels of segmentation: what the ground around the ego is, cell by cell (spec gencomm.md, section 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opencood.data.frame import Agent
from opencood.data.pictures import first_existing, read_pixels
from opencood.errors import ConfigError

DYNAMIC, STATIC, LANE = "bev_dynamic.png", "bev_static.png", "bev_lane.png"
METRES_PER_PIXEL, CENTRE = 0.39, 127
ROAD, LINE = 1, 2


def ground_labels(
    agent: Agent, limits: Sequence[float], voxel_size: Sequence[float], endings: Sequence[str]
) -> dict[str, NDArray[np.int64]]:
    """Return ``dynamic_bev`` (0 nothing, 1 vehicle) and ``static_bev`` (0, 1 road, 2 lane line), (H, W) each.

    The maps lie like a detector's: a cell per voxel of the range, rows grow with y and columns with x.

    Args:
        agent: around whom the pictures are drawn, heading up.
        limits: range ``[x0, y0, z0, x1, y1, z1]``, metres.
        voxel_size: metres.
        endings: of the pictures that the configuration lists.

    Raises:
        ConfigError: a picture is not listed, or the data set has none.
        DataError: a picture is missing or broken.
    """
    for ending in (DYNAMIC, STATIC, LANE):
        if ending not in endings or ending not in agent.extras:
            reason = "this data set has no such files" if ending in endings else "segmentation needs it listed"
            raise ConfigError(f"add_data_extension: '{ending}': {reason}.")
    drawn = {ending: _sampled(agent, ending, limits, voxel_size) for ending in (DYNAMIC, STATIC, LANE)}
    static = np.where(drawn[LANE], LINE, np.where(drawn[STATIC], ROAD, 0))
    return {"dynamic_bev": drawn[DYNAMIC].astype(np.int64), "static_bev": static.astype(np.int64)}


def _sampled(agent: Agent, ending: str, limits: Sequence[float], voxel_size: Sequence[float]) -> NDArray[np.bool_]:
    """(H, W) whether something is drawn where the middle of each cell lies; nothing is beyond the picture."""
    picture: NDArray[np.bool_] = np.any(read_pixels(first_existing(agent.extras[ending]), "RGB"), axis=-1)
    x, y = (_middles(limits[axis], limits[axis + 3], voxel_size[axis]) for axis in (0, 1))
    rows, columns = CENTRE - (x / METRES_PER_PIXEL).astype(int), CENTRE + (y / METRES_PER_PIXEL).astype(int)
    inside_x, inside_y = (rows >= 0) & (rows < picture.shape[0]), (columns >= 0) & (columns < picture.shape[1])
    found = picture[rows.clip(0, picture.shape[0] - 1)[None], columns.clip(0, picture.shape[1] - 1)[:, None]]
    return found & inside_y[:, None] & inside_x[None]


def _middles(low: float, high: float, step: float) -> NDArray[np.float64]:
    return low + (np.arange(round((high - low) / step), dtype=np.float64) + 0.5) * step
