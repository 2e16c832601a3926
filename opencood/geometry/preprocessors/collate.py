"""Joining what preprocessors made of several clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def stack_voxels(clouds: Sequence[Mapping[str, NDArray]]) -> dict[str, torch.Tensor]:
    """Concatenate the voxels of several clouds; ``voxel_coords`` get the cloud's index as column 0."""
    joined = {key: torch.from_numpy(np.concatenate([cloud[key] for cloud in clouds])) for key in clouds[0]}
    counts = torch.tensor([len(cloud["voxel_coords"]) for cloud in clouds])
    index = torch.repeat_interleave(torch.arange(len(clouds)), counts).to(joined["voxel_coords"].dtype)
    joined["voxel_coords"] = torch.cat([index[:, None], joined["voxel_coords"]], dim=1)
    return joined


def stack(clouds: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Stack arrays of equal shape along a new first axis."""
    return {key: torch.from_numpy(np.stack([cloud[key] for cloud in clouds])) for key in clouds[0]}
