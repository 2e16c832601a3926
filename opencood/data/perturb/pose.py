"""Pose noise: what an agent believes about its own place is disturbed, the truth is kept (spec data.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame
from opencood.errors import ConfigError, nearest
from opencood.registry import register

DISTRIBUTIONS = ("gaussian", "laplace", "von_mises")


@register("perturbation", "pose_noise")
@dataclass(frozen=True)
class PoseNoise:
    """Noise on x, y and yaw of every agent, drawn for every agent and frame.

    Attributes:
        pos_std: metres; standard deviation, or the scale of the Laplace distribution.
        rot_std: degrees, likewise.
        pos_mean: metres.
        rot_mean: degrees.
        distribution: ``gaussian``, ``laplace``, or ``von_mises``: x and y Gaussian, yaw von Mises with concentration
            1 / rot_std^2 (rot_std in radians), the Gaussian's counterpart on the circle (V2VNet robust, DiscoNet).
        ego: whether the ego is disturbed as well, as published.
    """

    pos_std: float = 0.0
    rot_std: float = 0.0
    pos_mean: float = 0.0
    rot_mean: float = 0.0
    distribution: str = "gaussian"
    ego: bool = True

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ConfigError(
                f"pose_noise.distribution: '{self.distribution}' is none of {', '.join(DISTRIBUTIONS)}."
                f"{nearest(self.distribution, DISTRIBUTIONS)}"
            )
        if self.pos_std < 0 or self.rot_std < 0:
            raise ConfigError(f"pose_noise: pos_std {self.pos_std:g} and rot_std {self.rot_std:g} cannot be below 0.")

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the frame with disturbed ``lidar_pose``s; ``lidar_pose_clean`` and the objects stay true.

        An agent's noise depends on its name alone, not on who else is there.
        """
        return self._applied(frame, lambda agent: draws.child(agent.id))

    def in_turn(self, frame: Frame, draws: Draws) -> Frame:
        """As published: all agents draw from one generator, one after the other."""
        return self._applied(frame, lambda _: draws)

    def draw(self, draws: Draws) -> NDArray[np.float64]:
        """Draw one disturbance (6,): x and y in metres, yaw in degrees, the rest zero."""
        plane = draws.numpy.laplace if self.distribution == "laplace" else draws.numpy.normal
        shift = plane(self.pos_mean, self.pos_std, size=2)
        if self.distribution == "von_mises":
            turn = np.array([self._angle(draws)])
        else:
            turn = plane(self.rot_mean, self.rot_std, size=1)
        return np.array([shift[0], shift[1], 0, 0, turn[0], 0])

    def _angle(self, draws: Draws) -> float:
        if self.rot_std == 0:
            return self.rot_mean
        concentration = 1 / np.radians(self.rot_std) ** 2
        return float(np.degrees(draws.numpy.vonmises(np.radians(self.rot_mean), concentration)))

    def _applied(self, frame: Frame, source: Callable[[Agent], Draws]) -> Frame:
        def disturbed(agent: Agent) -> Agent:
            if agent is frame.ego and not self.ego:
                return agent
            return replace(agent, lidar_pose=agent.lidar_pose + self.draw(source(agent)))

        return replace(frame, agents=tuple(map(disturbed, frame.agents)))


def build_pose_noise(setting: Mapping[str, Any] | None, needs_switch: bool = False) -> PoseNoise | None:
    """Return the noise of a ``noise_setting``, or None when it is off.

    Args:
        setting: ``{add_noise, args: {pos_std, rot_std, pos_mean, rot_mean, laplace}}``.
        needs_switch: the setting must also say ``add_pose_noise`` (GenComm files); otherwise it may say so, and without
            it a setting that asks for delay (``add_async_noise``) asks for that alone.

    Raises:
        ConfigError: noise is on but its ``args`` are missing.
    """
    if not setting or not setting.get("add_noise"):
        return None
    if not setting.get("add_pose_noise", not needs_switch and not setting.get("add_async_noise")):
        return None
    args = setting.get("args") or {}
    missing = [key for key in ("pos_std", "rot_std") if key not in args]
    if missing:
        raise ConfigError(f"noise_setting.args: missing {', '.join(missing)} although add_noise is on.")
    pos_std, rot_std, pos_mean, rot_mean = (
        float(args.get(key, 0)) for key in ("pos_std", "rot_std", "pos_mean", "rot_mean")
    )
    return PoseNoise(pos_std, rot_std, pos_mean, rot_mean, "laplace" if args.get("laplace") else "gaussian")
