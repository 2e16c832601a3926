"""Parts of the homogeneous detectors on voxels: SECOND, its SSFA variants and VoxelNet.

Like :mod:`opencood.models.parts`. Source: spec models.md 4.2, homogeneous.md 4.
"""

from __future__ import annotations

from torch import nn

from opencood.config.flavor import flavor_of
from opencood.models.backbones.sparse_volume import SparseBackbone3d
from opencood.models.context import Context
from opencood.models.encoders.second import POINT_FEATURES, SparseEncoder, sparse_grid
from opencood.models.heads.region_proposal import RegionProposals
from opencood.models.heads.ssfa import SsfaHead
from opencood.models.parts import anchor_counts
from opencood.registry import REGISTRY

# Arguments of the encoders, which lie flat in ``model.args`` here.
SECOND_ARGS = ("voxel_size", "lidar_range", "mean_vfe", "spconv", "map2bev")
VOXEL_ARGS = ("voxel_size", "lidar_range", "pillar_vfe")
# What the families call the joint output of ``ciassd``.
STAGE = "stage1_out"
STAGES = {"opencood": "preds_dict_stage1"}
# Families whose ``second`` has residual blocks in its sparse backbone.
RESIDUAL_FLAVORS = frozenset({"coopre"})


def sparse_encoder(ctx: Context) -> nn.Module:
    """SECOND's encoder."""
    return REGISTRY.build("encoder", "second", {key: ctx.need(key) for key in SECOND_ARGS}, where=ctx.where())


def backbone_3d(ctx: Context) -> nn.Module:
    """SECOND's encoder under its older name, with 128 channels in each slice of height."""
    return SparseEncoder(sparse_backbone(ctx)[1], "backbone_3d")


def sparse_backbone(ctx: Context) -> tuple[int, SparseBackbone3d]:
    """Numbers of a point, and SECOND's sparse backbone, with residual blocks where the family has them."""
    features = ctx.need("mean_vfe").get("feature_points", POINT_FEATURES)
    grid = sparse_grid(ctx.need("voxel_size"), ctx.lidar_range)
    residual = flavor_of(ctx.hypes) in RESIDUAL_FLAVORS
    return features, SparseBackbone3d(grid, features, features, residual=residual)


def backbone_2d(ctx: Context) -> nn.Module:
    """``base_bev_backbone`` on the map that arrives."""
    section = {"inplanes": ctx.width, **ctx.need("base_bev_backbone")}
    net = REGISTRY.build("backbone", "BaseBEVBackbone", section, where=ctx.where("base_bev_backbone"))
    ctx.check_width(net.in_channels, "base_bev_backbone")
    return net


def ssfa(ctx: Context) -> nn.Module:
    """``ssfa``."""
    net = REGISTRY.build("backbone", "SSFA", ctx.need("ssfa"), where=ctx.where("ssfa"))
    ctx.check_width(net.in_channels, "ssfa")
    return net


def ssfa_head(ctx: Context) -> nn.Module:
    """``head``, each output by itself."""
    return _ssfa_head(ctx, "")


def stage_head(ctx: Context) -> nn.Module:
    """``head``, all outputs together as a first stage."""
    return _ssfa_head(ctx, STAGES.get(flavor_of(ctx.hypes), STAGE))


def voxel_net(ctx: Context) -> nn.Module:
    """VoxelNet's encoder with its middle layers."""
    args = {key: ctx.need(key) for key in VOXEL_ARGS}
    return REGISTRY.build("encoder", "voxel_net", args, where=ctx.where(), runs_middle=True)


def region_proposals(ctx: Context) -> nn.Module:
    """VoxelNet's region proposal network on the map that arrives."""
    assert ctx.width is not None, "an encoder says how wide its map is"
    return RegionProposals(ctx.width, anchor_counts(ctx)[0])


def _ssfa_head(ctx: Context, stage: str) -> nn.Module:
    head: SsfaHead = REGISTRY.build("head", "ssfa", ctx.need("head"), where=ctx.where("head"), stage=stage)
    ctx.check_width(head.in_channels, "head.num_input")
    return head
