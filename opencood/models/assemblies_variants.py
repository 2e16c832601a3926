"""The table of published models, continued: cameras, PIXOR, CenterPoint, uncertainty. Source: spec models.md 4.2."""

from __future__ import annotations

from opencood.models import parts, parts_variants
from opencood.models.assemblies import (
    FUSION,
    FUSION_ARGS,
    HEADS,
    PILLAR_ARGS,
    PILLAR_IGNORES,
    PILLARS,
    SHRINK,
    fuse_levels,
    fuse_once,
    no_fusion,
)
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly
from opencood.models.freezing import for_fixed_backbone

CENTER_HEADS = (
    Part("head", "cls_head", parts.class_logits, "cls_preds"),
    Part("head", "reg_head", parts_variants.center_boxes, "bbox_preds"),
    Part("refine", "box_decoder", parts_variants.center_decoder),
)
CENTER_ARGS = PILLAR_ARGS | {"out_size_factor"}
CAMERA_ARGS = frozenset(parts_variants.CAMERA_ARGS) | {"bevout_feature", "shrink_header"}
ANCHOR_ARGS = frozenset({"anchor_number", "anchor_num", "num_class", "dir_args", "in_head"})

ASSEMBLIES = (
    Assembly(
        "lift_splat_shoot",
        "Lift-Splat-Shoot for the cameras of one agent: no fusion, or late fusion.",
        (
            Part("encode", "", parts_variants.camera_encoder),
            Part("encode", "bevencode", parts_variants.camera_backbone),
            SHRINK,
            *HEADS,
        ),
        no_fusion,
        collaborates=False,
        batch_key="image_inputs",
        args=CAMERA_ARGS | ANCHOR_ARGS,
        ignores=PILLAR_IGNORES,
    ),
    Assembly(
        "pixor",
        "PIXOR for one cloud seen from above: no fusion, late fusion, or early fusion of points.",
        (Part("encode", "backbone", parts_variants.pixor_encoder), Part("head", "header", parts_variants.pixor_head)),
        no_fusion,
        collaborates=False,
        batch_key="processed_lidar",
        args=frozenset(parts_variants.PIXOR_ARGS),
        ignores=PILLAR_IGNORES | {"decode"},
    ),
    Assembly(
        "point_pillar_uncertainty",
        "PointPillars for one cloud that also says how sure it is of its boxes.",
        (*PILLARS, *HEADS, Part("head", "unc_head", parts_variants.log_variances, "unc_preds")),
        no_fusion,
        collaborates=False,
        batch_key="processed_lidar",
        args=PILLAR_ARGS | {"uncertainty_dim"},
        ignores=PILLAR_IGNORES,
        freeze=for_fixed_backbone,
    ),
    Assembly(
        "center_point",
        "CenterPoint on pillars for one cloud: no fusion, late fusion, or early fusion of points.",
        (*PILLARS, SHRINK, *CENTER_HEADS),
        no_fusion,
        collaborates=False,
        batch_key="processed_lidar",
        args=CENTER_ARGS,
        ignores=PILLAR_IGNORES,
        freeze=for_fixed_backbone,
    ),
    Assembly(
        "center_point_baseline",
        "CenterPoint on pillars with one fusion of one map.",
        (
            *PILLARS,
            Part("encode", "shrink_conv", parts.shrink),
            Part("link", "naive_compressor", parts.compression),
            FUSION,
            *CENTER_HEADS,
        ),
        fuse_once,
        collaborates=True,
        batch_key="processed_lidar",
        args=CENTER_ARGS | FUSION_ARGS,
        ignores=PILLAR_IGNORES,
        freeze=for_fixed_backbone,
    ),
    Assembly(
        "center_point_baseline_multiscale",
        "CenterPoint on pillars with a fusion at every level of its backbone.",
        (
            PILLARS[0],
            Part("levels", "backbone", parts.homogeneous_levels),
            Part("fuse", "fusion_net", parts.fusion_per_level),
            SHRINK,
            Part("link", "naive_compressor", parts.compression),
            *CENTER_HEADS,
        ),
        fuse_levels,
        collaborates=True,
        batch_key="processed_lidar",
        args=CENTER_ARGS | FUSION_ARGS,
        ignores=PILLAR_IGNORES,
        freeze=for_fixed_backbone,
    ),
)

for _row in ASSEMBLIES:
    register_assembly(_row)
