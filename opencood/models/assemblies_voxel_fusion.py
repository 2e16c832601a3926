"""The table of published models, continued: OpenCOOD's intermediate fusion on voxels and pictures of points.

Source: spec homogeneous.md 2 to 4.
"""

from __future__ import annotations

from dataclasses import replace

from opencood.models import parts, parts_opencood, parts_variants, parts_voxels
from opencood.models.assemblies import FUSION_ARGS, HEADS, PILLAR_IGNORES, fuse_once
from opencood.models.assemblies_opencood import (
    COMPRESSOR,
    FIRST_BLOCK,
    INTERMEDIATE,
    LEVEL_ATTENTION,
    MOTION,
    NECK,
    POSES,
    intermediate_of,
    with_fusion,
)
from opencood.models.assembly import Part, plain_link
from opencood.models.builder import register_assembly
from opencood.models.freezing import for_fixed_backbone

OLD_HEADS = (
    Part("head", "cls_head", parts.class_logits, "psm"),
    Part("head", "reg_head", parts.box_residuals, "rm"),
)

SECOND = replace(
    INTERMEDIATE,
    name="second_intermediate",
    summary="SECOND with attention at every level of its 2D backbone.",
    parts=(
        Part("encode", "", parts_voxels.backbone_3d),
        Part("levels", "backbone_2d", parts_opencood.compressed_levels),
        LEVEL_ATTENTION,
        *OLD_HEADS,
    ),
    probes={name: tuple(p.replace("backbone.", "backbone_2d.") for p in path) for name, path in FIRST_BLOCK.items()},
    args=frozenset(
        {"voxel_size", "lidar_range", "mean_vfe", "base_bev_backbone", "num_class", "anchor_number", "anchor_num"}
    ),
    ignores=PILLAR_IGNORES | {"batch_size", "grid_size", "backbone_3d", "height_compression"},
)
SECOND_FCOOPER = replace(
    SECOND,
    name="second_fcooper",
    summary="SECOND with the maximum over agents (F-Cooper).",
    parts=(
        Part("encode", "", parts_voxels.backbone_3d),
        Part("encode", "backbone_2d", parts_voxels.backbone_2d),
        NECK,
        COMPRESSOR,
        Part("fuse", "fusion_net", parts_opencood.maximum),
        *HEADS,
    ),
    fuse=fuse_once,
    link=plain_link,
    probes={},
    args=SECOND.args | {"shrink_header", "compression", "backbone_fix", "dir_args", "in_head"},
    freeze=for_fixed_backbone,
)
SECOND_V2XVIT = replace(
    SECOND_FCOOPER,
    name="second_v2xvit",
    summary="SECOND with V2X-ViT.",
    parts=with_fusion(SECOND_FCOOPER, parts_opencood.moving_v2xvit),
    args=SECOND_FCOOPER.args | {"transformer"},
    reads=MOTION,
)
SECOND_BASELINE = replace(
    SECOND_FCOOPER,
    name="second_baseline",
    summary="SECOND with one fusion of one map.",
    parts=with_fusion(SECOND_FCOOPER, parts.fusion),
    args=SECOND_FCOOPER.args | FUSION_ARGS,
    frame="own",
    reads=POSES,
)
VOXEL_NET = replace(
    SECOND,
    name="voxel_net_intermediate",
    summary="VoxelNet with one attention before its region proposals.",
    parts=(
        Part("encode", "", parts_voxels.voxel_net),
        Part("link", "compression_layer", parts_opencood.stage_compression),
        Part("fuse", "fusion_net", parts_opencood.attention),
        Part("head", "rpn", parts_voxels.region_proposals),
    ),
    fuse=fuse_once,
    link=plain_link,
    probes={},
    args=frozenset(parts_voxels.VOXEL_ARGS) | {"anchor_number", "anchor_num", "compression"},
    ignores=PILLAR_IGNORES | {"batch_size", "N", "D", "H", "W", "T", "grid_size"},
)
PIXOR = replace(
    SECOND,
    name="pixor_intermediate",
    summary="PIXOR with attention at three levels of its net.",
    parts=(
        Part("encode", "", parts_opencood.pixor_picture),
        Part("levels", "backbone", parts_opencood.pixor_levels),
        Part("fuse", "fusion_net", parts_opencood.pixor_attention),
        Part("head", "header", parts_variants.pixor_head),
    ),
    probes={"first": ("backbone.first",)},
    args=frozenset(parts_variants.PIXOR_ARGS),
    ignores=PILLAR_IGNORES | {"decode"},
)

for _row in (SECOND, VOXEL_NET, PIXOR):
    register_assembly(_row, intermediate_of)
for _row in (SECOND_FCOOPER, SECOND_V2XVIT, SECOND_BASELINE):
    register_assembly(_row)
