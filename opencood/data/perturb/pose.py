"""Pose noise: what an agent believes about its own place is disturbed, the truth is kept (spec data.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame
from opencood.errors import ConfigError
from opencood.registry import register


@register("perturbation", "pose_noise")
@dataclass(frozen=True)
class PoseNoise:
    """Gaussian or Laplace noise on x, y and yaw of every agent, the ego included.

    Attributes:
        pos_std: metres; standard deviation, or the scale of the Laplace distribution.
        rot_std: degrees, likewise.
        pos_mean: metres.
        rot_mean: degrees.
        laplace: Laplace instead of Gaussian noise.
    """

    pos_std: float
    rot_std: float
    pos_mean: float = 0.0
    rot_mean: float = 0.0
    laplace: bool = False

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the frame with disturbed ``lidar_pose``s; ``lidar_pose_clean`` and the objects stay true."""
        return replace(frame, agents=tuple(self._disturbed(agent, draws) for agent in frame.agents))

    def draw(self, draws: Draws) -> NDArray[np.float64]:
        """Draw one disturbance (6,): x and y in metres, yaw in degrees, the rest zero."""
        distribution = draws.numpy.laplace if self.laplace else draws.numpy.normal
        shift = distribution(self.pos_mean, self.pos_std, size=2)
        turn = distribution(self.rot_mean, self.rot_std, size=1)
        return np.array([shift[0], shift[1], 0, 0, turn[0], 0])

    def _disturbed(self, agent: Agent, draws: Draws) -> Agent:
        return replace(agent, lidar_pose=agent.lidar_pose_clean + self.draw(draws))


def build_pose_noise(setting: Mapping[str, Any] | None, needs_switch: bool = False) -> PoseNoise | None:
    """Return the noise of a ``noise_setting``, or None when it is off.

    Args:
        setting: ``{add_noise, args: {pos_std, rot_std, pos_mean, rot_mean, laplace}}``.
        needs_switch: the setting must also say ``add_pose_noise`` (GenComm files).

    Raises:
        ConfigError: noise is on but its ``args`` are missing.
    """
    if not setting or not setting.get("add_noise") or (needs_switch and not setting.get("add_pose_noise")):
        return None
    args = setting.get("args") or {}
    missing = [key for key in ("pos_std", "rot_std") if key not in args]
    if missing:
        raise ConfigError(f"noise_setting.args: missing {', '.join(missing)} although add_noise is on.")
    known = {key: float(args[key]) for key in ("pos_std", "rot_std", "pos_mean", "rot_mean") if key in args}
    return PoseNoise(**known, laplace=bool(args.get("laplace", False)))
