"""A batch without content for one scene, as large as a configuration's: what shapes and operations are counted on.

Maps, points and pictures are on the meta device, which computes shapes and no numbers. Cells of points are real: a
filled square around every agent, flat on the ground.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opencood.config.tree import lookup, section
from opencood.errors import ConfigError

META = torch.device("meta")
POINT_FEATURES = 4
CAMERA = "camera"


def meta_batch(
    hypes: Mapping[str, Any], modalities: Sequence[str], batch_key: str, voxels: int, also: Sequence[str] = ()
) -> dict[str, Any]:
    """The ``ego`` entry of a batch that holds one scene.

    Args:
        modalities: modality of each agent; the name does not matter in homogeneous models.
        batch_key: template of the key of an agent's sensor data.
        voxels: cells with points, for each agent.
        also: further modalities as which the data of every agent are prepared.

    Raises:
        ConfigError: the configuration does not say what an agent's sensor gives.
    """
    count = len(modalities)
    batch: dict[str, Any] = {
        "agent_modality_list": list(modalities),
        "record_len": torch.tensor([count]),
        "pairwise_t_matrix": torch.eye(4).expand(1, count, count, 4, 4),
        "spatial_correction_matrix": torch.eye(4).expand(1, count, 4, 4),
        "prior_encoding": torch.zeros(1, count, 3),
        "lidar_pose": torch.zeros(count, 6),
        "object_bbx_center": torch.zeros(count, 1, 7),
    }
    for name in dict.fromkeys([*modalities, *also]):
        key = batch_key.format(m=name)
        agents = count if key == batch_key or name in also else list(modalities).count(name)
        batch[key] = _inputs(hypes, name, key, agents, voxels)
    return batch


def _inputs(hypes: Mapping[str, Any], modality: str, key: str, agents: int, voxels: int) -> dict[str, Tensor]:
    setting = section(hypes, f"heter.modality_setting.{modality}")
    pictures = next(filter(None, (section(tree, "data_aug_conf") for tree in _camera_sections(hypes, setting))), None)
    if setting.get("sensor_type", CAMERA if "image" in key else "lidar") == CAMERA:
        if pictures is None:
            raise ConfigError(f"{modality}: no data_aug_conf says how large its pictures are.")
        return _camera(pictures, agents, "depth" in (hypes.get("input_source") or ()))
    preprocess = setting.get("preprocess") or section(hypes, "preprocess")
    geometry = lookup(preprocess, "geometry_param.input_shape")
    if geometry is not None:
        columns, rows, channels = geometry
        return {"bev_input": torch.empty(agents, channels, columns, rows, device=META)}
    return _cloud(preprocess, agents, voxels)


def _camera_sections(hypes: Mapping[str, Any], setting: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [setting, section(hypes, "model.args"), section(hypes, "fusion.args")]


def _camera(conf: Mapping[str, Any], agents: int, depth: bool) -> dict[str, Tensor]:
    height, width = conf["final_dim"]
    cameras = (agents, conf.get("Ncams", len(conf.get("cams", ()))))
    shapes = {
        "imgs": (3 + depth, height, width),
        **dict.fromkeys(("rots", "intrins", "post_rots"), (3, 3)),
        **dict.fromkeys(("trans", "post_trans"), (3,)),
        "extrinsics": (4, 4),
    }
    return {key: torch.empty(*cameras, *shape, device=META) for key, shape in shapes.items()}


def _cloud(preprocess: Mapping[str, Any], agents: int, voxels: int) -> dict[str, Tensor]:
    limits, args = preprocess.get("cav_lidar_range"), section(preprocess, "args")
    if limits is None or "voxel_size" not in args:
        raise ConfigError("preprocess: cav_lidar_range and args.voxel_size are needed to know the grid of the points.")
    columns, rows = (round((limits[i + 3] - limits[i]) / args["voxel_size"][i]) for i in (0, 1))
    side = math.isqrt(min(voxels, columns * rows))
    x, y = (torch.arange(min(side, cells)) + max(0, cells - side) // 2 for cells in (columns, rows))
    cells = torch.cartesian_prod(torch.arange(agents), torch.zeros(1, dtype=torch.long), y, x)
    points = args.get("max_points_per_voxel", 1)
    return {
        "voxel_features": torch.empty(len(cells), points, POINT_FEATURES, device=META),
        "voxel_coords": cells,
        "voxel_num_points": torch.empty(len(cells), dtype=torch.int32, device=META),
    }
