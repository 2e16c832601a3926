"""Small configurations and batches for model tests."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from codealign_samples import coded_models

RANGE = [-6.4, -6.4, -3, 6.4, 6.4, 1]
HEADS = {"anchor_number": 2, "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]}}
CENTER = {"anchor_number": 1, "out_size_factor": 2}
PILLARS = {
    "voxel_size": [0.4, 0.4, 4],
    "lidar_range": RANGE,
    "pillar_vfe": {"use_norm": True, "with_distance": False, "use_absolute_xyz": True, "num_filters": [16]},
    "point_pillar_scatter": {"num_features": 16},
}
SHRINK = {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [24], "input_dim": 24}
STAGE = {"layer_nums": [1], "layer_strides": [2], "num_filters": [16], "inplanes": 16}
PYRAMID = {
    "layer_nums": [1, 1],
    "layer_strides": [1, 2],
    "num_filters": [16, 32],
    "upsample_strides": [1, 2],
    "num_upsample_filter": [12, 12],
    "inplanes": 16,
}
BASE = PYRAMID | {"layer_strides": [2, 2]}


def modality(**parts: Any) -> dict[str, Any]:
    return {"core_method": "point_pillar", "sensor_type": "lidar", "encoder_args": PILLARS} | parts


ALIGNED = modality(backbone_args=STAGE, aligner_args={"core_method": "identity"})
PLAIN = modality(backbone_args=BASE, shrink_header=SHRINK)
AFTER = {"lidar_range": RANGE, "shrink_header": SHRINK, "in_head": 24} | HEADS

MODELS: dict[str, dict[str, Any]] = {
    "heter_model_baseline": {"lidar_range": RANGE, "m1": PLAIN, "in_head": 24, "fusion_method": "att"}
    | {"att": {"feat_dim": 24}}
    | HEADS,
    "heter_model_baseline_ms": {"m1": ALIGNED, "fusion_backbone": PYRAMID, "fusion_method": "max"} | AFTER,
    "heter_pyramid_collab": {"m1": ALIGNED, "fusion_backbone": PYRAMID | {"resnext": True}} | AFTER,
    "heter_pyramid_single": {
        "m1": modality(
            backbone_args=STAGE, aligner_args={"core_method": "convnext", "args": {"dim": 16, "num_of_blocks": 1}}
        ),
        "fusion_backbone": PYRAMID | {"resnext": False},
    }
    | AFTER,
    "heter_model_late": {
        "lidar_range": RANGE,
        "m1": modality(backbone_args=STAGE, layers_args=PYRAMID, shrink_header=SHRINK, head_args={"in_head": 24}),
    }
    | HEADS,
    "point_pillar": PILLARS | {"base_bev_backbone": BASE, "shrink_header": SHRINK} | HEADS,
    "point_pillar_baseline": PILLARS
    | {"base_bev_backbone": BASE, "shrink_header": SHRINK, "fusion_method": "att", "att": {"feat_dim": 24}}
    | HEADS,
    "point_pillar_baseline_multiscale": PILLARS
    | {"base_bev_backbone": BASE, "shrink_header": SHRINK, "fusion_method": "max", "compression": 4}
    | HEADS,
    "point_pillar_uncertainty": PILLARS | {"base_bev_backbone": BASE, "uncertainty_dim": 3} | HEADS,
    "center_point": PILLARS | {"base_bev_backbone": BASE, "shrink_header": SHRINK} | CENTER,
    "center_point_baseline": PILLARS
    | {"base_bev_backbone": BASE, "shrink_header": SHRINK, "fusion_method": "att", "att": {"feat_dim": 24}}
    | CENTER,
    "center_point_baseline_multiscale": PILLARS
    | {"base_bev_backbone": BASE, "shrink_header": SHRINK, "fusion_method": "max", "compression": 4}
    | CENTER,
}
UNET = {"embed_dim": 26, "in_channels": 24, "out_ch": 24, "ch": 8, "ch_mult": [1, 1], "num_res_blocks": 1}
GRID = {"in_cav_lidar_range": RANGE, "out_cav_lidar_range": RANGE, "in_feature_shape": [16, 16]}
TRANSLATOR = {
    "core_method": "adapterconvnext",
    "args": {"in_channels": 24, "out_channels": 24, "out_feature_shape": [16, 16]}
    | GRID
    | {"submodule_args": {"num_of_blocks": 1, "dim": 8}},
}
# What the methods beside GenComm add to the baseline.
GENCOMM: dict[str, dict[str, Any]] = {
    "gencomm_stage1": {
        "gencomm": {"model": UNET, "diffusion": {"num_diffusion_timesteps": 3}},
        "message_extractor": {"in_ch": 24, "out_ch": 2},
        "enhancer": {"in_ch": 24},
    },
    "backalign": {"ego_modality": "m2"},
    "codebook": {
        "codebook": {"seg_num": 2, "dict_size": 12, "channel": 24},
        "communication": {"thre": 0.0076, "gaussian_smooth": {"k_size": 3, "c_sigma": 1.0}},
    },
    "mpda": {
        "resizer": {"input_channel": 24, "output_channel": 24, "residual": {"input_dim": 24, "depth": 1}}
        | {"wg_att": {"input_dim": 24, "mlp_dim": 24, "window_size": 2, "dim_head": 8, "drop_out": 0.1, "depth": 1}},
        "cdt": {"input_dim": 24, "window_size": 2, "dim_head": 8, "heads": 2, "depth": 1},
        "classifier": 24,
    },
    "stamp_infer": {"ego_modality": "m1", "m1": PLAIN | {"adapter": TRANSLATOR, "reverter": TRANSLATOR}},
}
GENCOMM["gencomm_stage2"] = GENCOMM["gencomm_stage1"] | {"ego_modality": "m2"}
MODELS |= {
    f"heter_model_baseline_w_{method}": MODELS["heter_model_baseline"] | changes for method, changes in GENCOMM.items()
}
CODED = coded_models(ALIGNED, PYRAMID | {"resnext": False}, AFTER)
MODELS |= CODED
V2XVIT = {
    "depth": 1,
    "num_blocks": 1,
    "cav_att_config": {"dim": 24, "use_hetero": True, "heads": 2, "dim_head": 4, "dropout": 0.3},
    "pwindow_att_config": {"dim": 24, "heads": [2, 1, 1], "dim_head": [4, 4, 4], "window_size": [2, 4, 8]}
    | {"relative_pos_embedding": True, "fusion_method": "split_attn", "dropout": 0.3},
    "feed_forward": {"mlp_dim": 24, "dropout": 0.3},
}
# Arguments of every fusion for a map of 24 channels and 16 x 16 cells.
FUSIONS: dict[str, Any] = {
    "max": {},
    "disconet": {"feat_dim": 24},
    "v2vnet": {"in_channels": 24, "num_iteration": 2, "conv_gru": {"num_layers": 1, "kernel_size": [[3, 3]]}},
    "where2comm": 24,
    "cobevt": {"input_dim": 24, "mlp_dim": 24, "agent_size": 4, "window_size": 4, "dim_head": 12, "depth": 1},
    "v2xvit": {"transformer": {"encoder": V2XVIT}},
}
NECKED = PILLARS | {"base_bev_backbone": BASE, "shrink_header": SHRINK, "anchor_number": 2}
V2VNET = FUSIONS["v2vnet"] | {
    "voxel_size": [0.4, 0.4, 4],
    "downsample_rate": 2,
    "gru_flag": True,
    "agg_operator": "avg",
}
AXIAL = FUSIONS["cobevt"] | {"mask": True}
TIMED = V2XVIT | {"use_roi_mask": True, "use_RTE": True, "RTE_ratio": 2}
CONFIDENT = {"communication": {"threshold": 0.016, "gaussian_smooth": {"k_size": 3, "c_sigma": 1.0}}}
HMVIT = {
    "num_iters": 2,
    "spatial_transform": {"voxel_size": [0.4, 0.4, 4], "downsample_rate": 2},
    "hetero_fusion_block": {"architect_mode": "sequential", "input_dim": 24, "mlp_dim": 16, "agent_size": 4}
    | {"window_size": 4, "dim_head": 8, "drop_out": 0.1, "mask": True},
}
# Detectors of OpenCOOD and its relatives, whose data are projected to the ego unless they say otherwise.
MODELS |= {
    "point_pillar_intermediate": PILLARS | {"base_bev_backbone": BASE | {"compression": 1}, "anchor_number": 2},
    "point_pillar_coalign": PILLARS | {"res_bev_backbone": BASE, "compression": 4, "anchor_number": 2},
    "point_pillar_fcooper": NECKED | {"compression": 4},
    "point_pillar_opv2v": NECKED,
    "point_pillar_intermediate_V2VAM": NECKED,
    "point_pillar_fax": NECKED | {"fax_fusion": AXIAL},
    "point_pillar_v2vnet": NECKED | {"v2vfusion": V2VNET},
    "point_pillar_transformer": NECKED
    | {"transformer": {"encoder": TIMED | {"sttf": {"voxel_size": [0.4, 0.4, 4], "downsample_rate": 2}}}},
    "point_pillar_where2comm": NECKED
    | {"where2comm_fusion": {"in_channels": 24, "num_filters": [16, 32], "multi_scale": True} | CONFIDENT},
    "point_pillar_mash": NECKED
    | {"mash": {"feature_dim": 24, "query_dim": 8, "key_dim": 8, "H": 16, "W": 16, "downsample_rate": 2}},
    "point_pillar_v2vnet_robust": PILLARS
    | {"lidar_range": [-12.8, -12.8, -3, 12.8, 12.8, 1], "base_bev_backbone": BASE | {"layer_strides": [1, 2]}}
    | {"shrink_header": SHRINK, "anchor_number": 2, "max_cav": 4, "v2vfusion": V2VNET | {"agg_operator": "weight"}}
    | {"robust": {"feature_dim": 24, "hidden_dim": 8, "downsample_rate": 1, "discrete_ratio": 0.4}},
    "hmvit": {
        "lidar_range": RANGE,
        "m1": modality(backbone_args=BASE, shrink_header=SHRINK),
        "hmvit": HMVIT,
        "hetero_decoder": {"input_dim": 24, "num_layer": 1, "num_ch_dec": [16], "anchor_number": 2},
    },
}
MODELS |= {
    "center_point_intermediate": PILLARS | {"base_bev_backbone": BASE | {"compression": 1}} | CENTER,
    "center_point_where2comm": NECKED
    | {
        "where2comm_fusion": {"in_channels": 24, "num_filters": [16, 32], "multi_scale": True}
        | CONFIDENT
        | {"communication": CONFIDENT["communication"] | {"threshold": 0.0102}}
    }
    | CENTER,
}
ALONE = {"heter_pyramid_single", "heter_model_late", "point_pillar", "point_pillar_uncertainty", "center_point"}
COLLABORATIVE = [name for name in MODELS if name not in ALONE]


def is_heterogeneous(name: str) -> bool:
    """Whether a model reads ``inputs_m1``."""
    return name.startswith(("heter", "hmvit")) or name in CODED


def hypes(name: str, **changes: Any) -> dict[str, Any]:
    """A configuration of a model, with changed arguments."""
    args = copy.deepcopy(MODELS[name]) | changes
    return {"model": {"core_method": name, "args": args}, "flavor": "heal", "parity": "fixed"}


def cloud(agents: list[int], seed: int = 0, pillars: int = 40) -> dict[str, torch.Tensor]:
    """Voxels for the given agent numbers; each agent's depend on the seed and its number alone."""
    parts = [_cloud(agent, np.random.default_rng((seed, agent)), pillars) for agent in agents]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]} if parts else _cloud(0, None, 0)


def _cloud(agent: int, rng: np.random.Generator | None, pillars: int) -> dict[str, torch.Tensor]:
    if rng is None:
        rng = np.random.default_rng(0)
    cells = rng.choice(32 * 32, pillars, replace=False)
    coords = np.stack([np.full(pillars, agent), np.zeros(pillars, int), cells // 32, cells % 32], axis=1)
    counts = rng.integers(1, 6, pillars)
    points = rng.normal(size=(pillars, 5, 4)) * (np.arange(5)[None, :, None] < counts[:, None, None])
    return {
        "voxel_features": torch.from_numpy(points.astype(np.float32)),
        "voxel_coords": torch.from_numpy(coords.astype(np.int32)),
        "voxel_num_points": torch.from_numpy(counts.astype(np.int32)),
    }


def batch(name: str, record_len: tuple[int, ...] = (3, 2), **voxels: Any) -> dict[str, Any]:
    """A batch for a model."""
    agents = sum(record_len)
    key = input_key(name)
    content: dict[str, Any] = {key: cloud(list(range(agents)), **voxels)}
    if name not in COLLABORATIVE:
        return content | {"object_bbx_center": torch.zeros(agents, 5, 7)}
    pairwise = torch.eye(4, dtype=torch.float64).repeat(len(record_len), 4, 4, 1, 1)
    for i in range(4):
        for j in range(4):
            pairwise[:, i, j, :2, 3] = torch.tensor([0.8 * (j - i), 0.4 * (i - j)])
    content |= {"record_len": torch.tensor(record_len), "pairwise_t_matrix": pairwise}
    content |= _motion(record_len)
    return content | ({"agent_modality_list": ["m1"] * agents} if key == "inputs_m1" else {})


def input_key(name: str) -> str:
    """Where the batch holds a model's points."""
    return "inputs_m1" if is_heterogeneous(name) else "processed_lidar"


def _motion(record_len: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Speed, delay and kind of agents, their motion, poses that fit the pairwise matrices."""
    slot = torch.cat([torch.arange(count) for count in record_len]).float()
    prior = torch.zeros(len(record_len), 4, 3)
    correction = torch.eye(4).repeat(len(record_len), 4, 1, 1)
    for scene, count in enumerate(record_len):
        numbers = torch.arange(count)
        prior[scene, :count] = torch.stack([numbers * 0.5, numbers, numbers % 2], dim=1).float()
        correction[scene, :count, 0, 3] = 0.4 * numbers
    pose = torch.zeros(len(slot), 6)
    pose[:, :2] = torch.stack([-0.8 * slot, 0.4 * slot], dim=1)
    return {"prior_encoding": prior, "spatial_correction_matrix": correction, "lidar_pose": pose}
