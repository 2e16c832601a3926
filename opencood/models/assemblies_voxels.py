"""The table of published models, continued: detectors on voxels. Source: spec models.md 4.2, homogeneous.md 4."""

from __future__ import annotations

from dataclasses import replace

from opencood.models import parts, parts_variants, parts_voxels
from opencood.models.assemblies import HEADS, SHRINK, no_fusion
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly

# The parsers of these models add the grid and the batch size to the arguments.
IGNORES = frozenset({"batch_size", "N", "D", "H", "W", "T", "max_cav", "grid_size", "supervise_single"})
ANCHOR_ARGS = frozenset({"anchor_number", "anchor_num"})
SPARSE_ARGS = frozenset(parts_voxels.SECOND_ARGS) | ANCHOR_ARGS
SPARSE = (Part("encode", "", parts_voxels.sparse_encoder), Part("encode", "ssfa", parts_voxels.ssfa), SHRINK)

SECOND = Assembly(
    "second",
    "SECOND for one cloud: no fusion, late fusion, or early fusion of points.",
    (
        Part("encode", "", parts_voxels.backbone_3d),
        Part("encode", "backbone_2d", parts_voxels.backbone_2d),
        Part("head", "cls_head", parts.class_logits, "psm"),
        Part("head", "reg_head", parts.box_residuals, "rm"),
    ),
    no_fusion,
    collaborates=False,
    batch_key="processed_lidar",
    args=ANCHOR_ARGS | {"voxel_size", "lidar_range", "mean_vfe", "base_bev_backbone", "num_class"},
    ignores=IGNORES | {"backbone_3d", "height_compression"},
)
SSFA = replace(
    SECOND,
    name="second_ssfa",
    summary="SECOND with CIA-SSD's neck and heads for one cloud: no fusion, late fusion, or early fusion of points.",
    parts=(*SPARSE, Part("head", "head", parts_voxels.ssfa_head)),
    args=SPARSE_ARGS | {"ssfa", "head", "shrink_header"},
    ignores=IGNORES,
)

ASSEMBLIES = (
    SECOND,
    SSFA,
    replace(
        SSFA,
        name="second_ssfa_uncertainty",
        summary="SECOND with CIA-SSD's neck for one cloud, that also says how sure it is of its boxes.",
        parts=(*SPARSE, *HEADS, Part("head", "unc_head", parts_variants.log_variances, "unc_preds")),
        args=SSFA.args - {"head"} | {"uncertainty_dim", "dir_args", "num_class", "in_head"},
    ),
    replace(
        SSFA,
        name="ciassd",
        summary="CIA-SSD for one cloud: no fusion, late fusion, or early fusion of points.",
        parts=(*SPARSE, Part("head", "head", parts_voxels.stage_head)),
    ),
    replace(
        SSFA,
        name="voxel_net",
        summary="VoxelNet for one cloud: no fusion, late fusion, or early fusion of points.",
        parts=(Part("encode", "", parts_voxels.voxel_net), Part("head", "rpn", parts_voxels.region_proposals)),
        args=frozenset(parts_voxels.VOXEL_ARGS) | ANCHOR_ARGS,
    ),
)

for _row in ASSEMBLIES:
    register_assembly(_row)
