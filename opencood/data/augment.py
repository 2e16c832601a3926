"""World augmentation of a cloud together with its boxes (spec data.md, section 6); training only.

Each step takes points (N, 4) float32 and boxes (n, 7) float64 ``x, y, z, sizes, yaw`` of one frame of reference
(metres, radians) and returns new arrays. The steps run in the order of the YAML list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.errors import ConfigError
from opencood.registry import REGISTRY, register

Cloud = tuple[NDArray, NDArray]
Step = Callable[[NDArray, NDArray, Draws], Cloud]
_SMALLEST_SCALE_INTERVAL = 1e-3


@register("augmentor", "random_world_flip")
@dataclass(frozen=True)
class RandomWorldFlip:
    """Mirror the world at the x axis, the y axis, or both, each with probability 1/2."""

    ALONG_AXIS_LIST: Sequence[str]

    def __post_init__(self) -> None:
        if set(self.ALONG_AXIS_LIST) - {"x", "y"}:
            raise ConfigError(
                f"data_augment: random_world_flip: ALONG_AXIS_LIST {self.ALONG_AXIS_LIST} may hold x and y."
            )

    def __call__(self, points: NDArray, boxes: NDArray, draws: Draws) -> Cloud:
        """Draw once per axis and mirror."""
        points, boxes = points.copy(), boxes.copy()
        for axis in self.ALONG_AXIS_LIST:
            # This form of choice uses the generator as the published draw order does; a plain coin would not.
            if not draws.numpy.choice([False, True], replace=False, p=[0.5, 0.5]):
                continue
            mirrored = 1 if axis == "x" else 0
            points[:, mirrored] *= -1
            boxes[:, mirrored] *= -1
            boxes[:, 6] = -boxes[:, 6] if axis == "x" else -(boxes[:, 6] + np.pi)
        return points, boxes


@register("augmentor", "random_world_rotation")
@dataclass(frozen=True)
class RandomWorldRotation:
    """Turn the world about the vertical axis by a uniform angle in radians; a single number a means [-a, a]."""

    WORLD_ROT_ANGLE: Sequence[float] | float

    def __call__(self, points: NDArray, boxes: NDArray, draws: Draws) -> Cloud:
        """Draw the angle and turn; the coordinates are computed in float32."""
        given = self.WORLD_ROT_ANGLE
        low, high = given if isinstance(given, Sequence) else (-given, given)
        angle = draws.numpy.uniform(low, high)
        points, boxes = points.copy(), boxes.copy()
        points[:, :2] = _turned(points[:, :2], angle)
        boxes[:, :2] = _turned(boxes[:, :2], angle)
        boxes[:, 6] += angle
        return points, boxes


@register("augmentor", "random_world_scaling")
@dataclass(frozen=True)
class RandomWorldScaling:
    """Scale the world uniformly, boxes included."""

    WORLD_SCALE_RANGE: Sequence[float]

    def __call__(self, points: NDArray, boxes: NDArray, draws: Draws) -> Cloud:
        """Draw the factor and scale; an interval below 1e-3 is no augmentation and draws nothing."""
        low, high = self.WORLD_SCALE_RANGE
        if high - low < _SMALLEST_SCALE_INTERVAL:
            return points, boxes
        factor = draws.numpy.uniform(low, high)
        points, boxes = points.copy(), boxes.copy()
        points[:, :3] *= factor
        boxes[:, :6] *= factor
        return points, boxes


@register("augmentor", "random_lidar_downsampling")
@dataclass(frozen=True)
class RandomLidarDownsampling:
    """Keep a share of the points, drawn without replacement; the boxes stay."""

    DOWNSAMPLE_RATIO: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.DOWNSAMPLE_RATIO) != 1 or not 0 < self.DOWNSAMPLE_RATIO[0] <= 1:
            raise ConfigError(
                f"data_augment: random_lidar_downsampling: DOWNSAMPLE_RATIO {self.DOWNSAMPLE_RATIO} must be one share "
                "above 0 and at most 1, such as [0.8]."
            )

    def __call__(self, points: NDArray, boxes: NDArray, draws: Draws) -> Cloud:
        """Draw floor(ratio * N) points."""
        kept = int(self.DOWNSAMPLE_RATIO[0] * len(points))
        return points[draws.numpy.choice(len(points), kept, replace=False)], boxes


@dataclass(frozen=True)
class WorldAugmentation:
    """The steps of ``data_augment`` one after the other."""

    steps: tuple[Step, ...] = ()

    def __call__(self, points: NDArray, boxes: NDArray, draws: Draws) -> Cloud:
        """Return augmented copies of points (N, 4) and boxes (n, 7)."""
        for step in self.steps:
            points, boxes = step(points, boxes, draws)
        return points, boxes


def build_augmentation(steps: Sequence[Mapping[str, Any]] | None) -> WorldAugmentation:
    """Build the steps of the YAML list ``data_augment``; absent means none.

    Raises:
        ConfigError: a step has no NAME, an unknown one, or lacks its range.
    """
    built = []
    for number, step in enumerate(steps or []):
        where = f"data_augment[{number}]"
        if "NAME" not in step:
            raise ConfigError(f"{where}: NAME is missing.")
        args = {key: value for key, value in step.items() if key != "NAME"}
        built.append(REGISTRY.build("augmentor", step["NAME"], args, where=where))
    return WorldAugmentation(tuple(built))


def _turned(xy: NDArray, angle: float) -> NDArray[np.float32]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = xy.astype(np.float32).T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)
