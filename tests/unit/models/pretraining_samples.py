"""Small configurations and batches for tests of pretraining."""

from __future__ import annotations

import torch

LIMITS = [-6.4, -6.4, -3, 6.4, 6.4, 1]
FINE, COARSE = [0.1, 0.1, 0.1], [0.8, 0.8, 4.0]
SECOND = {
    "voxel_size": FINE,
    "lidar_range": LIMITS,
    "mean_vfe": {"feature_points": 4},
    "backbone_3d": {"mask_ratio": 0.5, "voxel_size": FINE},
    "base_bev_backbone": {
        "layer_nums": [1],
        "layer_strides": [1],
        "num_filters": [8],
        "upsample_strides": [1],
        "num_upsample_filter": [8],
    },
}


def voxels(count: int = 60, samples: int = 2, points: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random distinct voxels of a grid of 40 x 128 x 128, ordered by sample, with owners."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(40 * 128 * 128, generator=generator)[:count]
    coords = torch.stack([torch.arange(count) * samples // count, *torch.unravel_index(cells, (40, 128, 128))], dim=1)
    counts = torch.randint(1, points + 1, (count,), generator=generator)
    filled = torch.arange(points) < counts[:, None]
    return {
        "voxel_features": torch.rand(count, points, 4, generator=generator) * filled[..., None],
        "voxel_coords": coords.int(),
        "voxel_num_points": counts.int(),
        "voxel_agents": torch.randint(0, 3, (count, points), generator=generator).to(torch.uint8),
    }


def with_targets(batch: dict[str, torch.Tensor], size: int = 8) -> dict[str, torch.Tensor]:
    """The voxels with one point in the middle of every cell they touch, as ``bev_voxel_*``."""
    sample, _, y, x = batch["voxel_coords"].long().unbind(1)
    cells = torch.stack([sample, torch.zeros_like(y), y // size, x // size], dim=1).unique(dim=0)
    points = torch.zeros(len(cells), 3, 4)
    points[:, 0, 0] = LIMITS[0] + (cells[:, 3] + 0.5) * COARSE[0]
    points[:, 0, 1] = LIMITS[1] + (cells[:, 2] + 0.5) * COARSE[1]
    points[:, 0, 2] = 1.0
    counts = torch.ones(len(cells), dtype=torch.int)
    return batch | {"bev_voxel_features": points, "bev_voxel_coords": cells, "bev_voxel_num_points": counts}
