"""The networks of the second stages of FPV-RCNN and its voxel variant (spec homogeneous.md 4).

The published code of these parts needs a GPU and no numbers of it are recorded; what the specification leaves open is
said where it is decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.geometry.boxes import size_columns
from opencood.geometry.neighbours import NOBODY, ball_query, gathered, interpolated
from opencood.models.scene import SceneFeatures
from opencood.models.sparse.near_voxels import VoxelLevel, near_voxels

OFFSET = 3  # numbers of the way from a point to its neighbour
LEVELS = {"x_conv1": 16, "x_conv2": 32, "x_conv3": 64, "x_conv4": 64}
BEV = 128
BRANCHES = {"cls_layers": 1, "iou_layers": 1, "reg_layers": 7}


class SetAbstraction(nn.Module):
    """One small network per radius on the neighbours of a point; keys ``mlps.{k}.{0,1,3,4}``.

    Args:
        in_channels: of the points' features.
        mlps: widths for each radius.
        pool_radius: metres.
        n_sample: neighbours within each radius that count.
    """

    def __init__(
        self, in_channels: int, mlps: Sequence[Sequence[int]], pool_radius: Sequence[float], n_sample: Sequence[int]
    ) -> None:
        super().__init__()
        if not len(mlps) == len(pool_radius) == len(n_sample):
            raise ConfigError(
                f"a layer of points needs as many mlps as radii and samples, not {len(mlps)}, {len(pool_radius)}, "
                f"{len(n_sample)}."
            )
        self.mlps = nn.ModuleList(_shared_mlp([OFFSET + in_channels, *widths]) for widths in mlps)
        self.reach = tuple(zip(pool_radius, n_sample, strict=True))
        self.in_channels = in_channels
        self.out_channels = sum(widths[-1] for widths in mlps)

    def forward(self, queries: Tensor, points: Tensor, features: Tensor | None = None) -> Tensor:
        """Features (Q, C') of queries (Q, 3) from points (N, 3) with features (N, C); zeros without a neighbour."""
        if not len(queries):
            return queries.new_zeros(0, self.out_channels)
        found = []
        for mlp, (radius, count) in zip(self.mlps, self.reach, strict=True):
            neighbours = ball_query(queries, points, radius, count)
            columns = [gathered(points[:, :3], neighbours) - queries[:, None, :3]]
            if features is not None:
                columns.append(gathered(features, neighbours))
            lonely = (neighbours[:, :1] == NOBODY).unsqueeze(-1)
            grouped = torch.where(lonely, 0.0, torch.cat(columns, dim=-1))  # (Q, K, 3 + C)
            mapped = mlp(grouped.permute(2, 0, 1)[None])[0]  # (C', Q, K)
            found.append(torch.where(lonely[:, 0], 0.0, mapped.amax(dim=-1).T))
        return torch.cat(found, dim=1)


class KeypointFeatures(nn.Module):
    """Features of key points from raw points, sparse levels and the map.

    Keys ``SA_layers.{level - 1}``, ``SA_rawpoints``, ``vsa_point_feature_fusion.{0,1}``.
    """

    def __init__(self, sa_layer: Mapping[str, Any], features_source: Sequence[str], num_out_features: int) -> None:
        super().__init__()
        self.levels = [name for name in LEVELS if name in features_source]
        self.SA_layers = nn.ModuleList(_abstraction(LEVELS[name], sa_layer[name]) for name in self.levels)
        width = sum(layer.out_channels for layer in self.SA_layers if isinstance(layer, SetAbstraction))
        if "raw_points" in features_source:
            self.SA_rawpoints = _abstraction(0, sa_layer["raw_points"])
            width += self.SA_rawpoints.out_channels
        self.reads_map = "bev" in features_source
        width += BEV if self.reads_map else 0
        self.vsa_point_feature_fusion = nn.Sequential(
            nn.Linear(width, num_out_features, bias=False), nn.BatchNorm1d(num_out_features), nn.ReLU()
        )
        self.out_channels = num_out_features

    def forward(
        self, keypoints: Tensor, cloud: Tensor, levels: Mapping[str, VoxelLevel], bev: Tensor, places: Tensor
    ) -> Tensor:
        """What is around the key points of one agent, before :meth:`fused`.

        Args:
            keypoints: (K, 3) metres, agent frame.
            cloud: (P, 3 or more) its points.
            levels: its voxels, by name.
            bev: (C, H, W) its map.
            places: (K, 2) column and row of the key points on the map.
        """
        found = [interpolated(bev, places)] if self.reads_map else []
        for name, layer in zip(self.levels, self.SA_layers, strict=True):
            found.append(layer(keypoints, levels[name].centres(), levels[name].features))
        if hasattr(self, "SA_rawpoints"):
            found.append(self.SA_rawpoints(keypoints, cloud[:, :3]))
        return torch.cat(found, dim=1)

    def fused(self, around: Tensor) -> Tensor:
        """(K, C) of all agents together to (K, num_out_features)."""
        if not len(around) or (self.training and len(around) == 1):  # one row has no statistics
            return around.new_zeros(len(around), self.out_channels)
        return self.vsa_point_feature_fusion(around)


class VoxelPooling(nn.Module):
    """Voxels around a grid point; keys ``mlps_in|mlps_pos|mlps_out.{k}.{0,1}``."""

    def __init__(
        self,
        in_channels: int,
        mlps: Sequence[Sequence[int]],
        query_ranges: Sequence[Sequence[int]],
        pool_radius: Sequence[float],
        nsample: Sequence[int],
    ) -> None:
        super().__init__()
        self.mlps_in = nn.ModuleList(_normed(nn.Conv1d, in_channels, first, active=False) for first, _ in mlps)
        self.mlps_pos = nn.ModuleList(_normed(nn.Conv2d, OFFSET, first, active=False) for first, _ in mlps)
        self.mlps_out = nn.ModuleList(_normed(nn.Conv1d, first, last) for first, last in mlps)
        self.reach = tuple(zip(query_ranges, pool_radius, nsample, strict=True))
        self.out_channels = sum(last for _, last in mlps)

    def forward(self, queries: Tensor, level: VoxelLevel) -> Tensor:
        """Features (Q, C') of grid points (Q, 3) from the voxels of one scene."""
        found = []
        centres = level.centres()
        for number, (ranges, radius, count) in enumerate(self.reach):
            neighbours = near_voxels(queries, level, ranges, radius, count)
            lonely = (neighbours[:, :1] == NOBODY).unsqueeze(-1)
            steps = torch.where(lonely, 0.0, gathered(centres, neighbours) - queries[:, None])
            own = self.mlps_in[number](level.features.T[None])[0].T  # (M, C)
            seen = gathered(own, neighbours) + self.mlps_pos[number](steps.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
            best = torch.where(lonely, 0.0, torch.relu(seen)).amax(dim=1)
            found.append(self.mlps_out[number](best.T[None])[0].T)
        return torch.cat(found, dim=1)


class BoxRefinement(nn.Module):
    """The layers shared by the branches, and the branches; keys ``shared_fc_layers``, ``cls|iou|reg_layers``."""

    def __init__(self, in_channels: int, width: int, dropout: float, grid_size: int) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.shared_fc_layers = _connected(in_channels, width, dropout)
        for name, out in BRANCHES.items():
            self.add_module(name, nn.Sequential(*_connected(width, width, dropout), nn.Conv1d(width, out, 1)))

    def branches(self, pooled: Tensor) -> dict[str, Tensor]:
        """``rcnn_cls``, ``rcnn_iou`` (K, 1) and ``rcnn_reg`` (K, 7) of what was pooled in K boxes (K, G, C)."""
        shared = self.shared_fc_layers(pooled.transpose(1, 2).flatten(1).unsqueeze(-1))  # channel by channel
        return {
            f"rcnn_{name.removesuffix('_layers')}": self.get_submodule(name)(shared).squeeze(-1) for name in BRANCHES
        }

    def grid(self, boxes: Tensor, order: str) -> Tensor:
        """Points (K, G, 3), evenly in each box (K, 7): the middles of ``grid_size`` parts of every side."""
        parts = (torch.arange(self.grid_size, device=boxes.device) + 0.5) / self.grid_size - 0.5
        shares = torch.cartesian_prod(parts, parts, parts).to(boxes)  # along length, width, height
        local = shares * boxes[:, None, list(size_columns(order))]
        cosine, sine = boxes[:, None, 6].cos(), boxes[:, None, 6].sin()
        x = local[..., 0] * cosine - local[..., 1] * sine
        y = local[..., 0] * sine + local[..., 1] * cosine
        return torch.stack([x, y, local[..., 2]], dim=-1) + boxes[:, None, :3]


class GridRefinement(BoxRefinement):
    """Of FPV-RCNN: a grid of points in every box asks the key points; key ``roi_grid_pool_layer``."""

    def __init__(self, in_channels: int, n_fc_neurons: int, dp_ratio: float, roi_grid_pool: Mapping[str, Any]) -> None:
        pool = _abstraction(in_channels, roi_grid_pool)
        size = int(roi_grid_pool["grid_size"])
        super().__init__(size**3 * pool.out_channels, n_fc_neurons, dp_ratio, size)
        self.roi_grid_pool_layer = pool

    def forward(self, boxes: Tensor, order: str, keypoints: Tensor, features: Tensor) -> Tensor:
        """What is pooled in K boxes (K, G, C), given key points (M, 3) and their features in the same frame."""
        grid = self.grid(boxes, order)
        return self.roi_grid_pool_layer(grid.flatten(0, 1), keypoints, features).view(*grid.shape[:2], -1)


class VoxelRefinement(BoxRefinement):
    """Of the voxel variant: the grid asks the voxels of several levels; key ``roi_grid_pool_layers.{i}``."""

    def __init__(self, n_fc_neurons: int, dp_ratio: float, pool_cfg: Mapping[str, Any]) -> None:
        sources = list(pool_cfg["feature_source"])
        keys = ("mlps", "query_ranges", "pool_radius", "nsample")
        layers = pool_cfg["pool_layers"]
        pools = [VoxelPooling(LEVELS[name], *(layers[name][key] for key in keys)) for name in sources]
        joint, size = sum(pool.out_channels for pool in pools), int(pool_cfg["grid_size"])
        super().__init__(size**3 * joint, n_fc_neurons, dp_ratio, size)
        self.sources = sources
        self.roi_grid_pool_layers = nn.ModuleList(pools)

    def forward(self, boxes: Tensor, order: str, levels: Mapping[str, VoxelLevel]) -> Tensor:
        """What is pooled in K boxes (K, G, C), given the voxels of one scene by level."""
        grid = self.grid(boxes, order)
        pools = zip(self.sources, self.roi_grid_pool_layers, strict=True)
        found = [pool(grid.flatten(0, 1), levels[name]) for name, pool in pools]
        return torch.cat(found, dim=1).view(*grid.shape[:2], -1)


class SecondStage(nn.Module):
    """Holds the parts of a second stage; keys ``vsa``, ``roi_head`` at the top."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, outputs: dict[str, Any], scene: SceneFeatures) -> dict[str, Any]:
        """The outputs of the first stage, where the second is not run."""
        return outputs


def _abstraction(in_channels: int, section: Mapping[str, Any]) -> SetAbstraction:
    return SetAbstraction(in_channels, *(section[key] for key in ("mlps", "pool_radius", "n_sample")))


def _shared_mlp(widths: Sequence[int]) -> nn.Sequential:
    steps = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(layer for a, b in steps for layer in _normed(nn.Conv2d, a, b)))


def _normed(
    conv: type[nn.Conv1d] | type[nn.Conv2d], in_channels: int, channels: int, active: bool = True
) -> nn.Sequential:
    norm = nn.BatchNorm1d(channels) if conv is nn.Conv1d else nn.BatchNorm2d(channels)
    layers = [conv(in_channels, channels, 1, bias=False), norm]
    return nn.Sequential(*layers, nn.ReLU()) if active else nn.Sequential(*layers)


def _connected(in_channels: int, width: int, dropout: float) -> nn.Sequential:
    """Two fully connected layers without bias, as published at 0 and 3."""
    first = [nn.Conv1d(in_channels, width, 1, bias=False), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*first, nn.Conv1d(width, width, 1, bias=False), nn.ReLU(), nn.Dropout(dropout))
