"""The table of published models, continued: cameras, PIXOR, CenterPoint, uncertainty. Source: spec models.md 4.2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from opencood.models import parts, parts_variants
from opencood.models.assemblies import (
    HEADS,
    PILLAR_IGNORES,
    PILLARS,
    POINT_PILLAR,
    POINT_PILLAR_BASELINE,
    POINT_PILLAR_LEVELS,
    SHRINK,
    no_fusion,
    with_heads,
)
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly

CENTER_HEADS = (
    Part("head", "cls_head", parts.class_logits, "cls_preds"),
    Part("head", "reg_head", parts_variants.center_boxes, "bbox_preds"),
    Part("refine", "box_decoder", parts_variants.center_decoder),
)
CAMERA_ARGS = frozenset(parts_variants.CAMERA_ARGS) | {"bevout_feature", "shrink_header"}
ANCHOR_ARGS = frozenset({"anchor_number", "anchor_num", "num_class", "dir_args", "in_head"})


def center_point(row: Assembly, name: str, summary: str, heads: Sequence[Part] = CENTER_HEADS) -> Assembly:
    """A PointPillars row with the heads of CenterPoint."""
    args = row.args | {"out_size_factor"}
    return replace(row, name=name, summary=summary, parts=with_heads(row, heads), args=args)


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
    replace(
        POINT_PILLAR,
        name="point_pillar_uncertainty",
        summary="PointPillars for one cloud that also says how sure it is of its boxes.",
        parts=(*PILLARS, *HEADS, Part("head", "unc_head", parts_variants.log_variances, "unc_preds")),
        args=POINT_PILLAR.args | {"uncertainty_dim"},
    ),
    center_point(
        POINT_PILLAR, "center_point", "CenterPoint on pillars for one cloud: no fusion, late fusion, or early fusion."
    ),
    center_point(POINT_PILLAR_BASELINE, "center_point_baseline", "CenterPoint on pillars with one fusion of one map."),
    center_point(
        POINT_PILLAR_LEVELS,
        "center_point_baseline_multiscale",
        "CenterPoint on pillars with a fusion at every level of its backbone.",
    ),
)

for _row in ASSEMBLIES:
    register_assembly(_row)
