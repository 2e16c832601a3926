"""The second stages of FPV-RCNN and its voxel variant, as far as checkpoints know them (spec homogeneous.md 4).

Their parts are built with the published keys; what runs is the first stage. All published files train it alone
(``activate_stage2: false``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from opencood.errors import ConfigError
from opencood.models.scene import SceneFeatures

OFFSET = 3  # numbers of the way from a point to its neighbour
LEVELS = {"x_conv1": 16, "x_conv2": 32, "x_conv3": 64, "x_conv4": 64}
BEV = 128
BRANCHES = {"cls_layers": 1, "iou_layers": 1, "reg_layers": 7}


class SetAbstraction(nn.Module):
    """One small network per radius on the neighbours of a point; keys ``mlps.{k}.{0,1,3,4}``."""

    def __init__(self, in_channels: int, mlps: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(_shared_mlp([OFFSET + in_channels, *widths]) for widths in mlps)
        self.out_channels = sum(widths[-1] for widths in mlps)


class KeypointFeatures(nn.Module):
    """Features of key points from raw points, sparse levels and the map.

    Keys ``SA_layers.{level - 1}``, ``SA_rawpoints``, ``vsa_point_feature_fusion.{0,1}``.
    """

    def __init__(self, sa_layer: Mapping[str, Any], features_source: Sequence[str], num_out_features: int) -> None:
        super().__init__()
        levels = [name for name in LEVELS if name in features_source]
        self.SA_layers = nn.ModuleList(SetAbstraction(LEVELS[name], sa_layer[name]["mlps"]) for name in levels)
        width = sum(layer.out_channels for layer in self.SA_layers if isinstance(layer, SetAbstraction))
        if "raw_points" in features_source:
            self.SA_rawpoints = SetAbstraction(0, sa_layer["raw_points"]["mlps"])
            width += self.SA_rawpoints.out_channels
        width += BEV if "bev" in features_source else 0
        self.vsa_point_feature_fusion = nn.Sequential(
            nn.Linear(width, num_out_features, bias=False), nn.BatchNorm1d(num_out_features), nn.ReLU()
        )
        self.out_channels = num_out_features


class VoxelPooling(nn.Module):
    """Voxels around a grid point; keys ``mlps_in|mlps_pos|mlps_out.{k}.{0,1}``."""

    def __init__(self, in_channels: int, mlps: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.mlps_in = nn.ModuleList(_normed(nn.Conv1d, in_channels, first) for first, _ in mlps)
        self.mlps_pos = nn.ModuleList(_normed(nn.Conv2d, OFFSET, first) for first, _ in mlps)
        self.mlps_out = nn.ModuleList(_normed(nn.Conv1d, first, last) for first, last in mlps)
        self.out_channels = sum(last for _, last in mlps)


class BoxRefinement(nn.Module):
    """The layers shared by the branches, and the branches; keys ``shared_fc_layers``, ``cls|iou|reg_layers``."""

    def __init__(self, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.shared_fc_layers = _connected(in_channels, width, dropout)
        for name, out in BRANCHES.items():
            self.add_module(name, nn.Sequential(*_connected(width, width, dropout), nn.Conv1d(width, out, 1)))


class GridRefinement(BoxRefinement):
    """Of FPV-RCNN: a grid of points in every box asks the key points; key ``roi_grid_pool_layer``."""

    def __init__(self, in_channels: int, n_fc_neurons: int, dp_ratio: float, roi_grid_pool: Mapping[str, Any]) -> None:
        pool = SetAbstraction(in_channels, roi_grid_pool["mlps"])
        super().__init__(roi_grid_pool["grid_size"] ** 3 * pool.out_channels, n_fc_neurons, dp_ratio)
        self.roi_grid_pool_layer = pool


class VoxelRefinement(BoxRefinement):
    """Of the voxel variant: the grid asks the voxels of several levels; key ``roi_grid_pool_layers.{i}``."""

    def __init__(self, n_fc_neurons: int, dp_ratio: float, pool_cfg: Mapping[str, Any]) -> None:
        sources = pool_cfg["feature_source"]
        pools = [VoxelPooling(LEVELS[name], pool_cfg["pool_layers"][name]["mlps"]) for name in sources]
        joint = sum(pool.out_channels for pool in pools)
        super().__init__(pool_cfg["grid_size"] ** 3 * joint, n_fc_neurons, dp_ratio)
        self.roi_grid_pool_layers = nn.ModuleList(pools)


class SecondStage(nn.Module):
    """Holds the parts of a second stage that is not run; keys ``vsa``, ``roi_head`` at the top."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, outputs: dict[str, Any], scene: SceneFeatures) -> dict[str, Any]:
        """The outputs of the first stage."""
        return outputs


def check_inactive(args: Mapping[str, Any], name: str) -> None:
    """Raise ConfigError when a configuration wants the second stage run."""
    if args.get("activate_stage2"):
        raise ConfigError(
            f"model.args.activate_stage2: the second stage of {name} is built for its checkpoints but cannot be run; "
            "set it to false, as in the published files, for the first stage."
        )


def _shared_mlp(widths: Sequence[int]) -> nn.Sequential:
    steps = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(layer for a, b in steps for layer in _normed(nn.Conv2d, a, b)))


def _normed(conv: type[nn.Conv1d] | type[nn.Conv2d], in_channels: int, channels: int) -> nn.Sequential:
    norm = nn.BatchNorm1d(channels) if conv is nn.Conv1d else nn.BatchNorm2d(channels)
    return nn.Sequential(conv(in_channels, channels, 1, bias=False), norm, nn.ReLU())


def _connected(in_channels: int, width: int, dropout: float) -> nn.Sequential:
    """Two fully connected layers without bias, as published at 0 and 3."""
    first = [nn.Conv1d(in_channels, width, 1, bias=False), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*first, nn.Conv1d(width, width, 1, bias=False), nn.ReLU(), nn.Dropout(dropout))
