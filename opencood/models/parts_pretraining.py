"""Parts of pretraining: an encoder behind a mask, a decoder, what is predicted.

Like :mod:`opencood.models.parts`. Source: spec coopre.md 3, 4, 9 and 10.
"""

from __future__ import annotations

import math

from torch import nn

from opencood.config.pretrain import Pretraining, pretraining_of
from opencood.config.tree import lookup
from opencood.errors import ConfigError
from opencood.models import parts, parts_voxels
from opencood.models.context import Context
from opencood.models.encoders.point_pillar import grid_size
from opencood.models.pretraining.encoders import MaskablePillars, MaskedPillars, MaskedSecond
from opencood.models.pretraining.targets import TargetGrid
from opencood.registry import REGISTRY, Entry

SPARSE_STRIDE = 8  # of SECOND's map, whatever backbone_3d.down_factor says
COARSE = "preprocess.bev_args.voxel_size"
TOLERANCE = 1e-6


def masked_second(ctx: Context) -> nn.Module:
    """SECOND's encoder behind a mask."""
    settings = pretraining_of(ctx.hypes)
    stride = SPARSE_STRIDE * (_map_stride(ctx) if settings.decoder_after == "backbone_2d" else 1)
    features, backbone = parts_voxels.sparse_backbone(ctx)
    return MaskedSecond(settings, _targets(ctx, settings, stride), backbone, features)


def masked_pillars(ctx: Context) -> nn.Module:
    """PointPillars behind a mask."""
    settings = pretraining_of(ctx.hypes)
    entry = Entry("encoder", "point_pillar", MaskablePillars, frozenset({"anchor_number"}))
    args = {key: ctx.need(key) for key in parts.PILLAR_KEYS}
    encoder = MaskablePillars(**REGISTRY.check_arguments(entry, args, ctx.where()))
    return MaskedPillars(settings, _targets(ctx, settings, _map_stride(ctx)), encoder)


def backbone_2d(ctx: Context) -> nn.Module | None:
    """SECOND's 2D backbone, where it is pretrained too."""
    return parts_voxels.backbone_2d(ctx) if pretraining_of(ctx.hypes).decoder_after == "backbone_2d" else None


def idle_backbone_2d(ctx: Context) -> nn.Module | None:
    """The 2D backbone of published checkpoints, which pretraining never runs (spec coopre.md 3)."""
    if not ctx.quirk("pretraining_idle_backbone") or pretraining_of(ctx.hypes).decoder_after == "backbone_2d":
        return None
    net = parts_voxels.backbone_2d(ctx)
    net.out_channels = _width(ctx)  # type: ignore[assignment]  # what arrives here goes on to the decoder
    return net


def decoder(ctx: Context) -> nn.Module | None:
    """``pretrain.decoder.layers`` convolutions at the width of the map."""
    layers: list[nn.Module] = []
    for _ in range(pretraining_of(ctx.hypes).decoder_layers):
        layers += [nn.Conv2d(_width(ctx), _width(ctx), 3, padding=1), nn.BatchNorm2d(_width(ctx)), nn.ReLU()]
    return nn.Sequential(*layers) if layers else None


def points_of_cell(ctx: Context) -> nn.Module:
    """``pretrain.points.num`` points of every cell, all x, then all y, then all z."""
    return nn.Conv2d(_width(ctx), 3 * pretraining_of(ctx.hypes).num_points, 1)


def count_of_cell(ctx: Context) -> nn.Module:
    """How many points a cell holds."""
    return nn.Conv2d(_width(ctx), 1, 1)


def heights_of_cell(ctx: Context) -> nn.Module:
    """One number for each of the cells of ``bev_args`` above each other."""
    return nn.Conv2d(_width(ctx), _heights(ctx), 1)


def embedding(ctx: Context) -> nn.Module:
    """What cells of two views are compared by."""
    return nn.Conv2d(_width(ctx), pretraining_of(ctx.hypes).embedding_width, 1)


def _map_stride(ctx: Context) -> int:
    """Cells of the encoder's map along a side of a cell behind ``base_bev_backbone``."""
    section = ctx.need("base_bev_backbone")
    first, up = section["layer_strides"][0], (section.get("upsample_strides") or [1])[0]
    return round(first / up)


def _targets(ctx: Context, settings: Pretraining, stride: int) -> TargetGrid:
    """The cells that something is predicted for.

    Raises:
        ConfigError: ``bev_args`` is missing or has other cells than the decoder's map.
    """
    voxel, limits = ctx.need("voxel_size"), ctx.lidar_range
    columns, rows, _ = grid_size(voxel, limits)
    coarse = lookup(ctx.hypes, COARSE)
    size = (voxel[0] * stride, voxel[1] * stride, limits[5] - limits[2] if coarse is None else coarse[2])
    if coarse is None and settings.target in ("occupancy", "bev_map"):
        raise ConfigError(f"{COARSE}: missing; pretrain.target: {settings.target} predicts its cells.")
    if coarse is not None and any(abs(one - other) > TOLERANCE for one, other in zip(coarse, size, strict=True)):
        raise ConfigError(
            f"{COARSE}: {list(coarse)} is not a cell of the map that is predicted: {stride} voxels of {list(voxel)} "
            f"along x and y make {[round(side, 6) for side in size[:2]]}."
        )
    unit = size if settings.normalise == "cell" else ctx.need("backbone_3d")["voxel_size"]
    cells = (_heights(ctx), math.ceil(rows / stride), math.ceil(columns / stride))
    return TargetGrid(cells, stride, limits, size, unit)


def _heights(ctx: Context) -> int:
    coarse = lookup(ctx.hypes, COARSE)
    low, high = ctx.lidar_range[2], ctx.lidar_range[5]
    return 1 if coarse is None else round((high - low) / coarse[2])


def _width(ctx: Context) -> int:
    assert ctx.width is not None, "an encoder says how wide its map is"
    return ctx.width
