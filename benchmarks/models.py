"""Forward and backward passes, pillars, fusion and the codec, beside plain loops over agents and pillars."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import _detectors
import numpy as np
import torch
from _detectors import AGENTS
from _timing import Row, median_seconds, versus
from torch import Tensor, nn

from opencood.communication import Channel, Message, decode, encode
from opencood.geometry.warp import normalize_pairwise, warp
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY

QUARTER = (51.2, 25.6)
ON_CPU, ON_GPU = (25.6, 25.6), (102.4, 51.2)  # metres in x and y; the GPU gets the published range
PILLARS: dict[str, Any] = {
    "voxel_size": [0.4, 0.4, 4],
    "lidar_range": [-51.2, -25.6, -3, 51.2, 25.6, 1],
    "pillar_vfe": {"num_filters": [64]},
    "point_pillar_scatter": {"num_features": 64},
}
DETECTORS = {
    "pyramid": "heter_pyramid_collab (PointPillar)",
    "v2xvit": "V2X-ViT",
    "lidar_camera": "m1 + m2 (LiDAR + camera)",
}


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    torch.manual_seed(0)
    with torch.no_grad():
        rows = [_scatter(), _fusion("max", {}, _max_of), _fusion("att", {"feat_dim": 64}, _attend), _codec()]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in DETECTORS:
        rows += _passes(name, ON_GPU if device == "cuda" else ON_CPU, device)
    return rows


def _scatter() -> Row:
    """Pillars to vectors to the map; the plain baseline places the vectors one by one."""
    voxels = _detectors.voxels(sum(AGENTS), QUARTER)
    encoder = REGISTRY.build("encoder", "point_pillar", PILLARS).eval()
    agents = sum(AGENTS)

    def plain() -> Tensor:
        vectors = encoder.pillar_vfe(*voxels.values())
        canvas = vectors.new_zeros(agents, vectors.shape[1], 128, 256)
        for vector, (agent, _, y, x) in zip(vectors, voxels["voxel_coords"].tolist(), strict=True):
            canvas[agent, :, y, x] = vector
        return canvas

    assert torch.equal(encoder(voxels, agents).map, plain())
    return versus("pillar encoder, 15000 pillars", median_seconds(lambda: encoder(voxels, agents)), _once(plain))


def _fusion(method: str, args: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Row:
    """Warp and fusion of 5 agents in 2 scenes; the plain baseline goes scene by scene and agent by agent."""
    pairwise = torch.eye(4, dtype=torch.float64).repeat(len(AGENTS), 5, 5, 1, 1)
    scene = SceneFeatures((torch.randn(sum(AGENTS), 64, 64, 128),), AGENTS, pairwise, (51.2, 102.4))
    net = REGISTRY.build("fusion", method, args)

    def loop() -> Tensor:
        theta = normalize_pairwise(pairwise[0, 0, :1], *scene.extent).float()
        warped = [warp(level[None], theta) for level in scene.map]
        return torch.stack([plain(torch.cat(group)) for group in _by_scene(warped)])

    assert torch.allclose(net(scene), loop(), atol=1e-5)
    return versus(f"{method} fusion, 5 agents, 64 x 64 x 128", median_seconds(lambda: net(scene)), median_seconds(loop))


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


def _passes(name: str, reach: tuple[float, float], device: str) -> list[Row]:
    """Training and evaluation of a published detector, stage by stage, on +- ``reach`` metres with 5 agents."""
    model = _detectors.detector(name, reach).to(device)
    content = _detectors.batch(name, reach, device)
    title = f"{DETECTORS[name]}, 5 agents, {2 * reach[0]:g} x {2 * reach[1]:g} m, {device}"

    def both() -> None:
        model.zero_grad(set_to_none=True)
        outputs = model(content)
        sum(outputs[key].square().mean() for key in ("cls_preds", "reg_preds", "dir_preds")).backward()

    rows = [_row(f"{title}: forward and backward", both, device)]
    model.eval()
    with torch.no_grad():
        rows.append(_row(f"{title}: forward", lambda: model(content), device))
        rows += _stages(model, content, title, device)
        with torch.autocast(device, dtype=torch.bfloat16):
            rows.append(_row(f"{title}: forward in bf16", lambda: model(content), device))
        model.channel = Channel()
        rows.append(_row(f"{title}: forward through the channel", lambda: model(content), device))
    return rows


def _stages(model: nn.Module, content: dict[str, Any], title: str, device: str) -> list[Row]:
    """Every stage by itself, on what the one before gives."""
    seen = model.encode(content)
    arrived = model.exchange(seen)
    backend = model.backend_of(arrived)
    fused = backend.fuse(arrived)
    works: dict[str, Callable[[], Any]] = {
        "encode": lambda: model.encode(content),
        "link": lambda: model.exchange(seen),
        "fuse": lambda: backend.fuse(arrived),
        "detect": lambda: backend.detect(fused),
    }
    return [_row(f"{title}:   {stage}", work, device) for stage, work in works.items()]


def _row(title: str, work: Callable[[], Any], device: str) -> Row:
    def waited() -> None:
        work()
        if device == "cuda":
            torch.cuda.synchronize()

    return versus(title, median_seconds(waited, runs=2), None)


def _once(work: Callable[[], Any]) -> float:
    return median_seconds(work, runs=1, warm_up=0)
