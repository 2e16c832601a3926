"""What lies around an agent, drawn from above as OPV2V draws it: ``bev_static``, ``bev_lane``, ``bev_dynamic``,
``bev_visibility_corp`` (spec data.md 2.1)."""

from __future__ import annotations

import numpy as np

from opencood.simulation import rectangles
from opencood.simulation.camera.visibility import SIZE, ground_places
from opencood.simulation.roads import LANE_WIDTH, Roads

_LINE = 0.3  # half width of a drawn line, metres; thinner ones would fall between the pixels


def ground_maps(roads: Roads, vehicles: np.ndarray, seen: np.ndarray, lidar_pose: np.ndarray) -> dict[str, np.ndarray]:
    """Maps (256, 256) uint8 around a LiDAR by name, heading up, 0.39 m a pixel: 255 where there is something.

    Args:
        vehicles: rectangles (N, 5) of the vehicles, the agent's own left out.
        seen: (N,) those that any agent sees.
        lidar_pose: (4,) x, y, z, heading (rad).
    """
    places = ground_places(lidar_pose)
    drawn = {
        "static": _roads(roads),
        "lane": _lines(roads),
        "dynamic": vehicles,
        "visibility_corp": vehicles[seen],
    }
    return {name: _filled(shapes, places) for name, shapes in drawn.items()}


def _filled(shapes: np.ndarray, places: np.ndarray) -> np.ndarray:
    inside = rectangles.contains(shapes, places).any(axis=-1) if len(shapes) else np.zeros((SIZE, SIZE), bool)
    return np.where(inside, np.uint8(255), np.uint8(0))


def _roads(roads: Roads) -> np.ndarray:
    """Rectangles (K, 5): every arm from kerb to kerb."""
    half = roads.length / 2
    return np.array([(*roads.place(k, half, 0.0), arm, half, roads.kerb) for k, arm in enumerate(roads.arms)])


def _lines(roads: Roads) -> np.ndarray:
    """Rectangles (K, 5): the borders of all lanes, up to the junction."""
    half = (roads.length - roads.mouth) / 2
    offsets = np.arange(-roads.lanes, roads.lanes + 1) * LANE_WIDTH
    return np.array(
        [
            (*roads.place(k, roads.mouth + half, float(offset)), arm, half, _LINE)
            for k, arm in enumerate(roads.arms)
            for offset in offsets
        ]
    )
