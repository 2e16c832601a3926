"""The input of pretraining: voxels that are hidden in part, those that are predicted, and a second view.

Source: spec coopre.md 1 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.config.pretrain import Agents, Pretraining, pretraining_of
from opencood.data.augment import WorldAugmentation, build_augmentation
from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.samples.sensors import LIDAR, Points, build_preprocessor
from opencood.data.samples.settings import SampleSettings
from opencood.geometry.points import points_in_range
from opencood.geometry.preprocessors.collate import stack_voxels
from opencood.geometry.preprocessors.two_grids import COARSE, TwoGrids

VIEW = "view_"
TRANSFORM = "view_transform"
OWNER = 4  # column of the cloud with the number of the agent a point is of, the ego being 0
# Boxes at the origin and one metre along each axis: where a view moves them is its matrix.
PROBES = np.concatenate([np.eye(4, 3, k=-1), np.zeros((4, 4))], axis=1)


def with_owners(clouds: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Clouds (N, 4) of the agents of a scene as (N, 5)."""
    return [np.column_stack([cloud, np.full(len(cloud), row, np.float32)]) for row, cloud in enumerate(clouds)]


@dataclass(frozen=True)
class PretrainingInput:
    """A cloud whose voxels an encoder sees in part.

    Attributes:
        key: name in the batch.
        fine: preprocessor of the encoder.
        coarse: of the cells that are predicted; None where nothing of the kind is.
        settings: of the pretraining.
        views: what makes the second view of a contrast.
    """

    key: str
    fine: Any
    coarse: Any | None
    settings: Pretraining
    views: WorldAugmentation
    sensor: str = LIDAR

    @property
    def wants_owners(self) -> bool:
        """Whether points must say whose they are."""
        return self.settings.needs_owners

    def encode(self, agent: Agent, points: Points, draws: Draws) -> dict[str, Any]:
        """Voxels of points (N, 4), or (N, 5) with their owners.

        ``voxel_*`` of the agents that the encoder sees, with ``voxel_agents`` (V, P) where owners are known,
        ``bev_voxel_*`` of the agents that are reconstructed, ``view_voxel_*`` and ``view_transform`` (4, 4).
        """
        assert isinstance(points, np.ndarray), "pretraining reads clouds"
        shown = _of(points, self.settings.input_agents)
        made = self._voxels(shown, draws)
        if self.settings.target == "contrast":
            second, probes = self.views(shown, PROBES, draws)
            within = points_in_range(second, self.fine.cav_lidar_range)
            made |= {VIEW + key: value for key, value in self._voxels(within, draws).items()}
            made[TRANSFORM] = _matrix(probes)
        elif self.coarse is not None:
            wanted = _of(points, self.settings.reconstruct_agents)[:, :OWNER]
            made |= {COARSE + key: value for key, value in self.coarse.preprocess(wanted, draws.numpy).items()}
        return made

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Joined, the index of the sample in front of all coordinates."""
        batch: dict[str, torch.Tensor] = {}
        for prefix in ("", COARSE, VIEW):
            own = [_below(part, prefix) for part in parts]
            batch |= {prefix + key: value for key, value in stack_voxels(own).items()} if own[0] else {}
        if TRANSFORM in parts[0]:
            batch[TRANSFORM] = torch.from_numpy(np.stack([part[TRANSFORM] for part in parts]))
        return batch

    def _voxels(self, points: NDArray[np.float32], draws: Draws) -> dict[str, Any]:
        voxels = self.fine.preprocess(points, draws.numpy)
        if points.shape[1] > OWNER:
            features = voxels["voxel_features"]
            voxels["voxel_features"] = np.ascontiguousarray(features[..., :OWNER])
            voxels["voxel_agents"] = features[..., OWNER].astype(np.uint8)
        return dict(voxels)


def pretraining_input(key: str, settings: SampleSettings) -> PretrainingInput:
    """The input that ``preprocess`` and ``pretrain`` describe.

    Raises:
        ConfigError: a section lacks a key.
    """
    grids = build_preprocessor(settings.hypes["preprocess"], "preprocess", settings)
    fine, coarse = (grids.fine, grids.coarse) if isinstance(grids, TwoGrids) else (grids, None)
    wanted = pretraining_of(settings.hypes)
    return PretrainingInput(key, fine, coarse, wanted, build_augmentation(wanted.views))


def _of(points: NDArray[np.float32], agents: Agents) -> NDArray[np.float32]:
    """The points of some agents; those without an owner are the ego's."""
    if agents == "all":
        return points
    is_ego = points[:, OWNER] == 0 if points.shape[1] > OWNER else np.ones(len(points), bool)
    return points[is_ego if agents == "ego" else ~is_ego]


def _matrix(probes: NDArray) -> NDArray[np.float32]:
    """(4, 4) that moves the probes to where they are."""
    moved = np.eye(4)
    moved[:3, 3] = probes[0, :3]
    moved[:3, :3] = (probes[1:, :3] - probes[0, :3]).T
    return moved.astype(np.float32)


def _below(part: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The voxels under a prefix, by their plain names."""
    start = f"{prefix}voxel_"
    return {key.removeprefix(prefix): value for key, value in part.items() if key.startswith(start)}
