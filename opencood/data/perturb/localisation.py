"""Localisation error of ``wild_setting`` (V2X-Real, V2V4Real, CooPre; spec coopre.md, section 11.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.registry import register

_DEFAULT_SEED = 20


@register("perturbation", "localisation_error")
@dataclass(frozen=True)
class LocalisationError:
    """Gaussian noise on x, y, z and yaw of every agent but the ego.

    Attributes:
        xyz_std: metres.
        ryp_std: degrees; the published code draws roll, yaw and pitch but only yaw is used.
        seed: of ``constant``.
        constant: as published in testing: the generator is seeded again before every draw, so that all agents of all
            frames are off by the same. Otherwise drawn for every agent and frame.
    """

    xyz_std: float = 0.0
    ryp_std: float = 0.0
    seed: int = _DEFAULT_SEED
    constant: bool = False

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the frame with disturbed ``lidar_pose``s; the true ones and the objects stay."""
        if self.constant:
            offset = self.draw(Draws(np.random.RandomState(self.seed), None))
            return self._moved(frame, [offset] * (len(frame.agents) - 1))
        return self._moved(frame, [self.draw(draws.child(agent.id)) for agent in frame.agents[1:]])

    def in_turn(self, frame: Frame, draws: Draws) -> Frame:
        """As published: all agents draw from one generator, which ``constant`` leaves as its seed made it."""
        offsets = []
        for _ in frame.agents[1:]:
            if self.constant:
                draws.numpy.seed(self.seed)
            offsets.append(self.draw(draws))
        return self._moved(frame, offsets)

    def draw(self, draws: Draws) -> NDArray[np.float64]:
        """Draw one disturbance (6,): metres and degrees; roll and pitch are zero."""
        shift = draws.numpy.normal(0, self.xyz_std, 3)
        turn = draws.numpy.normal(0, self.ryp_std, 3)
        return np.array([*shift, 0, turn[1], 0])

    @staticmethod
    def _moved(frame: Frame, offsets: list[NDArray[np.float64]]) -> Frame:
        others = zip(frame.agents[1:], offsets, strict=True)
        moved = (replace(agent, lidar_pose=agent.lidar_pose + offset) for agent, offset in others)
        return replace(frame, agents=(frame.ego, *moved))


def build_localisation_error(setting: Mapping[str, Any] | None, constant: bool) -> LocalisationError | None:
    """Return the error of a ``wild_setting``, or None when ``loc_err`` is off."""
    if not setting or not setting.get("loc_err"):
        return None
    return LocalisationError(
        float(setting.get("xyz_std") or 0),
        float(setting.get("ryp_std") or 0),
        int(setting.get("seed", _DEFAULT_SEED)),
        constant,
    )
