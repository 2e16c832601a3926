"""Pictures of a scene: what a camera sees, lit, exposed and with the noise of a sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opencood.geometry.poses import x_to_world
from opencood.simulation.boxes import Boxes
from opencood.simulation.camera.appearance import Appearance
from opencood.simulation.camera.model import CameraModel
from opencood.simulation.camera.shade_kernel import Scene, shade
from opencood.simulation.camera.shadow_kernel import shadow_grid
from opencood.simulation.camera.trace_kernel import trace
from opencood.simulation.ray_kernel import NOTHING

_MIDDLE_GREY = 0.25
_FULL_WELL, _READ_NOISE = 2500.0, 0.004
_VIGNETTE = 0.22


@dataclass(frozen=True)
class Sight:
    """What the pixels of one camera see.

    Attributes:
        depth: (H, W) float64 metres along the optical axis, infinite for the sky.
        hit: (H, W) int64 row of the box, ``GROUND`` or ``NOTHING``.
        face: (H, W) int8 face of the box: -x, +x, -y, +y, bottom, top.
    """

    depth: np.ndarray
    hit: np.ndarray
    face: np.ndarray


def look(model: CameraModel, pose: np.ndarray, boxes: Boxes, own: int) -> Sight:
    """What a camera at a world pose (6,) sees of a scene; boxes of the body ``own`` (negative: none) are not seen."""
    shape = (model.height, model.width)
    sight = Sight(np.empty(shape), np.empty(shape, np.int64), np.empty(shape, np.int8))
    origin, turn = _place(pose)
    skip = (boxes.owner == own) & (boxes.owner >= 0)
    away = np.hypot(*(boxes.geometry[:, :2] - origin[:2]).T) - np.hypot(*boxes.geometry[:, 3:5].T)
    order = np.argsort(away, kind="stable")
    trace(boxes.geometry, skip, order, origin, turn, model.focal, sight.depth, sight.hit, sight.face)
    return sight


class Photographer:
    """Photographs one moment of a scenario; what all cameras share is prepared once.

    Args:
        boxes: the scene, the town first.
        poses: (N, 3) x, y, heading of all bodies.
    """

    def __init__(self, appearance: Appearance, boxes: Boxes, poses: np.ndarray) -> None:
        coats, bodies = appearance.coats(boxes, poses)
        light, headings = appearance.light, boxes.geometry[:, 2]
        self._scene = Scene(
            boxes=boxes.geometry,
            axes=np.stack([np.cos(headings), np.sin(headings)], axis=-1),
            material=boxes.material,
            look=coats.look,
            seed=coats.seed,
            colour=coats.colour,
            second=coats.second,
            body=bodies,
            ground=appearance.ground,
            to_sun=light.to_sun,
            sun=light.sun,
            sky=np.array([light.zenith, light.horizon, [light.clouds, light.seed, 0.0]]),
            grid=shadow_grid(boxes.geometry, light.to_sun),
        )

    def picture(self, model: CameraModel, pose: np.ndarray, sight: Sight, rng: np.random.Generator) -> np.ndarray:
        """The (H, W, 3) uint8 RGB photograph of what a camera at a pose (6,) sees."""
        return developed(self.radiance(model, pose, sight), sight.hit != NOTHING, rng)

    def radiance(self, model: CameraModel, pose: np.ndarray, sight: Sight) -> np.ndarray:
        """The (H, W, 3) float32 linear light that reaches the camera."""
        origin, turn = _place(pose)
        out = np.empty((model.height, model.width, 3), np.float32)
        shade(self._scene, origin, turn, model.focal, sight.depth, sight.hit, sight.face, out)
        return out


def _place(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and rotation (3, 3) of a pose (6,)."""
    to_world = x_to_world(pose)
    return to_world[:3, 3].copy(), to_world[:3, :3].copy()


def developed(light: np.ndarray, metered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn linear light (H, W, 3) into an 8-bit picture: exposure, lens, shot and read noise, tone curve.

    Args:
        metered: (H, W) bool, what the exposure is measured on.
    """
    height, width = metered.shape
    level = float(light[metered].mean()) if metered.any() else float(light.mean())
    exposure = np.float32(_MIDDLE_GREY * rng.uniform(0.8, 1.25) / max(level, 1e-3))
    v, u = np.ogrid[:height, :width]
    radius = ((u + 0.5) / width - 0.5) ** 2 + ((v + 0.5) / height - 0.5) ** 2
    signal = _softened(light) * (exposure * (1 - _VIGNETTE * 2 * radius)).astype(np.float32)[..., None]
    spread = np.sqrt(signal / np.float32(_FULL_WELL) + np.float32(_READ_NOISE**2))
    signal = np.clip(signal + spread * rng.standard_normal(signal.shape, dtype=np.float32), 0, None)
    # A shoulder keeps the sky from burning out at once.
    curve = (signal * (1 + signal / 4) / (1 + signal)) ** np.float32(1 / 2.2)
    return np.clip(np.round(curve * np.float32(255 * 1.12)), 0, 255).astype(np.uint8)


def _softened(light: np.ndarray) -> np.ndarray:
    """The blur of lens and demosaicing: a small bell of about one pixel."""
    padded = np.pad(light, ((1, 1), (0, 0), (0, 0)), mode="edge")
    rows = 0.2 * padded[:-2] + 0.6 * padded[1:-1] + 0.2 * padded[2:]
    padded = np.pad(rows, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (0.2 * padded[:, :-2] + 0.6 * padded[:, 1:-1] + 0.2 * padded[:, 2:]).astype(np.float32)
