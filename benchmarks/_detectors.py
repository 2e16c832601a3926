"""Three published detectors at their published widths, and batches of random input for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opencood.batch import to_device
from opencood.models.build import build_model

AGENTS = (3, 2)
PILLARS_PER_AGENT = 3000
POINTS = 8
CELL = 0.4
HEADS = {
    "in_head": 256,
    "anchor_number": 2,
    "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]},
}
SHRINK = {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [256], "input_dim": 384}
LEVELS = {
    "layer_nums": [3, 5, 8], "num_filters": [64, 128, 256],
    "upsample_strides": [1, 2, 4], "num_upsample_filter": [128, 128, 128],
}  # fmt: skip
ONE_STAGE = {"layer_nums": [3], "layer_strides": [2], "num_filters": [64]}
V2XVIT = {
    "num_blocks": 1,
    "depth": 3,
    "cav_att_config": {"dim": 256, "use_hetero": True, "heads": 8, "dim_head": 32, "dropout": 0.3},
    "pwindow_att_config": {"dim": 256, "heads": [16, 8, 4], "dim_head": [16, 32, 64], "dropout": 0.3}
    | {"window_size": [4, 8, 16], "relative_pos_embedding": True, "fusion_method": "split_attn"},
    "feed_forward": {"mlp_dim": 256, "dropout": 0.3},
}
PICTURE = (192, 256)
CAMERAS = 4


def detector(name: str, reach: tuple[float, float]) -> nn.Module:
    """``pyramid``, ``v2xvit`` or ``lidar_camera``, for a range of +- ``reach`` metres in x and y."""
    args: dict[str, Any] = {"lidar_range": _range(reach), "m1": _lidar(reach), **HEADS}
    if name == "v2xvit":
        args["m1"] |= {"backbone_args": LEVELS | {"layer_strides": [2, 2, 2]}, "shrink_header": SHRINK}
        args |= {"fusion_method": "v2xvit", "v2xvit": {"transformer": {"encoder": V2XVIT}}}
        return _built("heter_model_baseline", args)
    args["m1"] |= {"backbone_args": ONE_STAGE, "aligner_args": {"core_method": "identity"}}
    args |= {"fusion_backbone": LEVELS | {"layer_strides": [1, 2, 2], "resnext": True}, "shrink_header": SHRINK}
    if name == "lidar_camera":
        args["m2"] = _camera(reach)
    return _built("heter_pyramid_collab", args)


def batch(name: str, reach: tuple[float, float], device: str = "cpu") -> dict[str, Any]:
    """Five agents in two scenes; for ``lidar_camera`` one agent of each scene carries cameras."""
    camera_rows = {1, 4} if name == "lidar_camera" else set()
    names = ["m2" if row in camera_rows else "m1" for row in range(sum(AGENTS))]
    content: dict[str, Any] = {
        "inputs_m1": voxels(names.count("m1"), reach),
        "agent_modality_list": names,
        "record_len": torch.tensor(AGENTS),
        "pairwise_t_matrix": torch.eye(4, dtype=torch.float64).repeat(len(AGENTS), 5, 5, 1, 1),
    }
    if camera_rows:
        content["inputs_m2"] = pictures(names.count("m2"))
    return to_device(content, device)


def voxels(agents: int, reach: tuple[float, float]) -> dict[str, Tensor]:
    """Full pillars at random cells of each agent's map."""
    columns, rows = (round(2 * side / CELL) for side in reach)
    generator = np.random.default_rng(0)
    cells = np.concatenate([generator.choice(rows * columns, PILLARS_PER_AGENT, replace=False) for _ in range(agents)])
    agent = np.repeat(np.arange(agents), PILLARS_PER_AGENT)
    coords = np.stack([agent, np.zeros_like(cells), cells // columns, cells % columns], axis=1)
    return {
        "voxel_features": torch.from_numpy(generator.normal(size=(len(cells), POINTS, 4)).astype(np.float32)),
        "voxel_coords": torch.from_numpy(coords.astype(np.int32)),
        "voxel_num_points": torch.full((len(cells),), POINTS, dtype=torch.int32),
    }


def pictures(agents: int) -> dict[str, Tensor]:
    """Four cameras that look in four directions."""
    turn = torch.arange(CAMERAS) * torch.pi / 2
    ahead = torch.stack([turn.cos(), turn.sin(), torch.zeros(CAMERAS)], dim=-1)
    right = torch.stack([turn.sin(), -turn.cos(), torch.zeros(CAMERAS)], dim=-1)
    down = torch.tensor([0.0, 0, -1]).expand(CAMERAS, 3)
    shape = (agents, CAMERAS)
    intrinsic = torch.tensor([[200.0, 0, PICTURE[1] / 2], [0, 200, PICTURE[0] / 2], [0, 0, 1]])
    return {
        "imgs": torch.randn(*shape, 3, *PICTURE, generator=torch.Generator().manual_seed(0)),
        "rots": torch.stack([right, down, ahead], dim=-1).expand(*shape, 3, 3),
        "trans": torch.tensor([0.0, 0, 1.5]).expand(*shape, 3),
        "intrins": intrinsic.expand(*shape, 3, 3),
        "post_rots": torch.eye(3).expand(*shape, 3, 3),
        "post_trans": torch.zeros(*shape, 3),
    }


def _range(reach: tuple[float, float]) -> list[float]:
    return [-reach[0], -reach[1], -3, reach[0], reach[1], 1]


def _lidar(reach: tuple[float, float]) -> dict[str, Any]:
    pillars = {
        "voxel_size": [CELL, CELL, 4],
        "lidar_range": _range(reach),
        "pillar_vfe": {"num_filters": [64]},
        "point_pillar_scatter": {"num_features": 64},
    }
    return {"core_method": "point_pillar", "sensor_type": "lidar", "encoder_args": pillars}


def _camera(reach: tuple[float, float]) -> dict[str, Any]:
    grid = {"xbound": [-reach[0], reach[0], CELL], "ybound": [-reach[1], reach[1], CELL], "zbound": [-10, 10, 20.0]}
    grid |= {"ddiscr": [2, 50, 48], "mode": "LID"}
    encoder = {
        "grid_conf": grid, "data_aug_conf": {"final_dim": list(PICTURE)}, "img_downsample": 8, "img_features": 64,
        "depth_supervision": False, "use_depth_gt": False, "camera_encoder": "EfficientNet",
    }  # fmt: skip
    return {
        "core_method": "lift_splat_shoot", "sensor_type": "camera", "encoder_args": encoder,
        "backbone_args": ONE_STAGE, "aligner_args": {"core_method": "identity"},
        "camera_mask_args": {"cam_crop_info": None, "grid_conf": grid},
    }  # fmt: skip


def _built(core_method: str, args: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return build_model({"model": {"core_method": core_method, "args": args}, "flavor": "heal"})
