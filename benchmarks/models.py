"""Forward and backward passes, pillars, fusion and the codec, beside plain loops over agents and pillars."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _timing import Row, median_seconds, versus
from torch import Tensor

from opencood.communication import Channel, Message, decode, encode
from opencood.geometry.warp import normalize_pairwise, warp
from opencood.models.build import build_model
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY

RANGE = [-51.2, -25.6, -3, 51.2, 25.6, 1]
AGENTS = (4, 3)
PILLARS_PER_AGENT = 3000
POINTS = 8
PILLARS: dict[str, Any] = {
    "voxel_size": [0.4, 0.4, 4],
    "lidar_range": RANGE,
    "pillar_vfe": {"num_filters": [64]},
    "point_pillar_scatter": {"num_features": 64},
}
MODEL: dict[str, Any] = {
    "lidar_range": RANGE,
    "m1": {
        "core_method": "point_pillar",
        "sensor_type": "lidar",
        "encoder_args": PILLARS,
        "backbone_args": {
            "layer_nums": [3, 5, 8], "layer_strides": [2, 2, 2], "num_filters": [64, 128, 256],
            "upsample_strides": [1, 2, 4], "num_upsample_filter": [128, 128, 128],
        },
        "shrink_header": {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [256], "input_dim": 384},
    },
    "fusion_method": "att",
    "att": {"feat_dim": 256},
    "in_head": 256,
    "anchor_number": 2,
    "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]},
}  # fmt: skip


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    torch.manual_seed(0)
    batch = _batch()
    with torch.no_grad():
        parts = [_scatter(batch["inputs_m1"]), _fusion("max", {}, _max_of), _fusion("att", {"feat_dim": 64}, _attend)]
        parts.append(_codec())
    return [*parts, *_passes(batch)]


def _batch() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    agents = sum(AGENTS)
    cells = np.concatenate([generator.choice(256 * 128, PILLARS_PER_AGENT, replace=False) for _ in range(agents)])
    agent = np.repeat(np.arange(agents), PILLARS_PER_AGENT)
    coords = np.stack([agent, np.zeros_like(cells), cells // 256, cells % 256], axis=1)
    voxels = {
        "voxel_features": torch.from_numpy(generator.normal(size=(len(cells), POINTS, 4)).astype(np.float32)),
        "voxel_coords": torch.from_numpy(coords.astype(np.int32)),
        "voxel_num_points": torch.full((len(cells),), POINTS, dtype=torch.int32),
    }
    pairwise = torch.eye(4, dtype=torch.float64).repeat(len(AGENTS), 5, 5, 1, 1)
    names = ["m1"] * agents
    record_len = torch.tensor(AGENTS)
    return {
        "inputs_m1": voxels, "agent_modality_list": names, "record_len": record_len, "pairwise_t_matrix": pairwise,
    }  # fmt: skip


def _scatter(voxels: dict[str, Tensor]) -> Row:
    """Pillars to vectors to the map; the plain baseline places the vectors one by one."""
    encoder = REGISTRY.build("encoder", "point_pillar", PILLARS).eval()
    agents = sum(AGENTS)

    def plain() -> Tensor:
        vectors = encoder.pillar_vfe(*voxels.values())
        canvas = vectors.new_zeros(agents, vectors.shape[1], 128, 256)
        for vector, (agent, _, y, x) in zip(vectors, voxels["voxel_coords"].tolist(), strict=True):
            canvas[agent, :, y, x] = vector
        return canvas

    assert torch.equal(encoder(voxels, agents).map, plain())
    return versus("pillar encoder, 21000 pillars", median_seconds(lambda: encoder(voxels, agents)), _once(plain))


def _fusion(method: str, args: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Row:
    """Warp and fusion of 7 agents in 2 scenes; the plain baseline goes scene by scene and agent by agent."""
    pairwise = torch.eye(4, dtype=torch.float64).repeat(len(AGENTS), 5, 5, 1, 1)
    scene = SceneFeatures((torch.randn(sum(AGENTS), 64, 64, 128),), AGENTS, pairwise, (51.2, 102.4))
    net = REGISTRY.build("fusion", method, args)

    def loop() -> Tensor:
        theta = normalize_pairwise(pairwise[0, 0, :1], *scene.extent).float()
        warped = [warp(level[None], theta) for level in scene.map]
        return torch.stack([plain(torch.cat(group)) for group in _by_scene(warped)])

    assert torch.allclose(net(scene), loop(), atol=1e-5)
    return versus(f"{method} fusion, 7 agents, 64 x 64 x 128", median_seconds(lambda: net(scene)), median_seconds(loop))


def _by_scene(items: list[Tensor]) -> list[list[Tensor]]:
    ends = np.cumsum(AGENTS)
    return [items[end - count : end] for end, count in zip(ends, AGENTS, strict=True)]


def _max_of(maps: Tensor) -> Tensor:
    return maps.amax(0)


def _attend(maps: Tensor) -> Tensor:
    scores = torch.stack([(maps[0] * agent).sum(0) for agent in maps]) / maps.shape[1] ** 0.5
    return (scores.softmax(0)[:, None] * maps).sum(0)


def _codec() -> Row:
    """A 256 x 64 x 128 float32 map there and back; the plain baseline is torch.save and torch.load."""
    message = Message({"map": torch.randn(1, 256, 64, 128)})

    def plain() -> Any:
        buffer = io.BytesIO()
        torch.save(dict(message.tensors), buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)

    return versus("codec round trip, 8 MiB", median_seconds(lambda: decode(encode(message))), median_seconds(plain))


def _passes(batch: dict[str, Any]) -> list[Row]:
    """Published PointPillars with attention on a quarter of the published range, 7 agents."""
    model = build_model({"model": {"core_method": "heter_model_baseline", "args": MODEL}, "flavor": "heal"})

    def forward() -> Tensor:
        outputs = model(batch)
        return sum(outputs[key].square().mean() for key in ("cls_preds", "reg_preds", "dir_preds"))

    def both() -> None:
        model.zero_grad()
        forward().backward()

    training = median_seconds(both, runs=3)
    model.eval()
    with torch.no_grad():
        silent = median_seconds(forward, runs=3)
        model.channel = Channel()
        metered = median_seconds(forward, runs=3)
    return [
        versus("forward and backward, 7 agents", training, None),
        versus("forward, 7 agents", silent, None),
        versus("forward through the channel, 7 agents", metered, None),
    ]


def _once(work: Callable[[], Any]) -> float:
    return median_seconds(work, runs=1, warm_up=0)
