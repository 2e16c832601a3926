"""The table of published models: ``model.core_method`` to parts. Source: spec models.md 4.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opencood.models import parts
from opencood.models.assembly import Assembly, FuseStage, Part
from opencood.models.builder import register_assembly
from opencood.models.freezing import for_alignment, for_compressor, for_fixed_backbone, nothing_frozen
from opencood.models.fusing import FuseLevels, FuseOnce, FusePyramid, NoFusion, PyramidAlone


def no_fusion(slots: Mapping[str, Any]) -> FuseStage:
    """Agents stay apart."""
    return NoFusion()


def fuse_once(slots: Mapping[str, Any]) -> FuseStage:
    """One fusion of one map."""
    return FuseOnce(slots["fuse"])


def fuse_levels(slots: Mapping[str, Any]) -> FuseStage:
    """Fusion at every level of a backbone."""
    return FuseLevels(slots["levels"], slots["fuse"])


def fuse_pyramid(slots: Mapping[str, Any]) -> FuseStage:
    """Pyramid fusion by occupancy."""
    return FusePyramid(slots["fuse"])


def pyramid_alone(slots: Mapping[str, Any]) -> FuseStage:
    """The pyramid without collaboration."""
    return PyramidAlone(slots["fuse"])


HEADS = (
    Part("head", "cls_head", parts.class_logits, "cls_preds"),
    Part("head", "reg_head", parts.box_residuals, "reg_preds"),
    Part("head", "dir_head", parts.direction_bins, "dir_preds"),
)
OWN_HEADS = (
    Part("own_head", "cls_head_single", parts.class_logits_single, "cls_preds_single"),
    Part("own_head", "reg_head_single", parts.box_residuals_single, "reg_preds_single"),
    Part("own_head", "dir_head_single", parts.direction_bins_single, "dir_preds_single"),
)
HEADS_BY_MODALITY = tuple(Part("head", f"{head.name}_{{m}}", head.make, head.key) for head in HEADS)
ALIGNED = (
    Part("encode", "encoder_{m}", parts.encoder),
    Part("encode", "backbone_{m}", parts.residual_backbone),
    Part("encode", "aligner_{m}", parts.aligner),
    Part("encode", "crop_{m}", parts.camera_fit),
)
COMPRESSOR = Part("link", "compressor", parts.compressor)
SHRINK = Part("shrink", "shrink_conv", parts.shrink)
NECK = Part("encode", "shrink_conv", parts.shrink)  # the same before fusion
COMPRESSION = Part("link", "naive_compressor", parts.compression)
PYRAMID = Part("fuse", "{pyramid}", parts.pyramid)
FUSION = Part("fuse", "fusion_net", parts.fusion)
PILLARS = (Part("encode", "", parts.pillar_encoder), Part("encode", "backbone", parts.homogeneous_backbone))

HETER_ARGS = frozenset(
    {"lidar_range", "anchor_number", "anchor_num", "dir_args", "in_head", "num_class", "shrink_header"}
)
FUSION_ARGS = frozenset({"fusion_method", "fusion_args"})
SINGLE_ARGS = frozenset({"supervise_single", "in_head_single"})
# Read by data and training, not by a model.
ELSEWHERE = frozenset({"ego_modality", "supervise_single", "stage2_added_modality", "ignored_modality", "voxel_size"})
PILLAR_ARGS = frozenset(
    {"lidar_range", "voxel_size", "pillar_vfe", "point_pillar_scatter", "base_bev_backbone", "shrink_header"}
    | {"anchor_number", "anchor_num", "num_class", "dir_args", "in_head", "backbone_fix", "compression"}
)
PILLAR_IGNORES = frozenset({"max_cav", "supervise_single", "cls_head_dim"})


def with_heads(row: Assembly, heads: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a row with other heads at their end."""
    return (*(part for part in row.parts if part.slot != "head"), *heads)


BASELINE = Assembly(
    "heter_model_baseline",
    "Any encoders, a plain backbone and neck per modality, one fusion of one map.",
    (
        Part("encode", "encoder_{m}", parts.encoder),
        Part("encode", "backbone_{m}", parts.base_backbone),
        Part("encode", "shrinker_{m}", parts.shrink),
        Part("encode", "crop_{m}", parts.camera_fit),
        COMPRESSOR,
        *OWN_HEADS,
        FUSION,
        SHRINK,
        *HEADS,
    ),
    fuse_once,
    collaborates=True,
    batch_key="inputs_{m}",
    args=HETER_ARGS | FUSION_ARGS | SINGLE_ARGS | {"compressor"},
    ignores=ELSEWHERE,
    freeze=for_compressor,
)
PYRAMID_COLLAB = replace(
    BASELINE,
    name="heter_pyramid_collab",
    summary="Any encoders and aligners, pyramid fusion by occupancy (HEAL).",
    parts=(*ALIGNED, COMPRESSOR, PYRAMID, SHRINK, *HEADS),
    fuse=fuse_pyramid,
    args=HETER_ARGS | {"compressor", "fusion_backbone"},
)
POINT_PILLAR = Assembly(
    "point_pillar",
    "PointPillars for one cloud: no fusion, late fusion, or early fusion of points.",
    (*PILLARS, SHRINK, *HEADS),
    no_fusion,
    collaborates=False,
    batch_key="processed_lidar",
    args=PILLAR_ARGS,
    ignores=PILLAR_IGNORES,
    freeze=for_fixed_backbone,
)
POINT_PILLAR_BASELINE = replace(
    POINT_PILLAR,
    name="point_pillar_baseline",
    summary="PointPillars with one fusion of one map.",
    parts=(*PILLARS, NECK, COMPRESSION, FUSION, *HEADS),
    fuse=fuse_once,
    collaborates=True,
    args=PILLAR_ARGS | FUSION_ARGS,
)
POINT_PILLAR_LEVELS = replace(
    POINT_PILLAR_BASELINE,
    name="point_pillar_baseline_multiscale",
    summary="PointPillars with a fusion at every level of its backbone (CoAlign).",
    parts=(
        PILLARS[0],
        Part("levels", "backbone", parts.homogeneous_levels),
        Part("fuse", "fusion_net", parts.fusion_per_level),
        SHRINK,
        COMPRESSION,
        *HEADS,
    ),
    fuse=fuse_levels,
)

ASSEMBLIES = (
    BASELINE,
    replace(
        BASELINE,
        name="heter_model_baseline_ms",
        summary="Any encoders and aligners, a shared backbone whose every level is fused (CoAlign).",
        parts=(
            *ALIGNED,
            COMPRESSOR,
            *OWN_HEADS,
            Part("levels", "backbone", parts.fusion_levels),
            Part("fuse", "fusion_net", parts.fusion_per_level),
            SHRINK,
            *HEADS,
        ),
        fuse=fuse_levels,
        args=BASELINE.args | {"fusion_backbone"},
    ),
    PYRAMID_COLLAB,
    replace(
        PYRAMID_COLLAB,
        name="heter_pyramid_single",
        summary="One modality trained against a frozen collaboration (HEAL's backward alignment).",
        parts=tuple(part for part in PYRAMID_COLLAB.parts if part is not COMPRESSOR),
        fuse=pyramid_alone,
        collaborates=False,
        args=HETER_ARGS | {"fusion_backbone", "fix_encoder"},
        freeze=for_alignment,
    ),
    Assembly(
        "heter_model_late",
        "Every modality a detector of its own, for late fusion.",
        (
            Part("encode", "encoder_{m}", parts.encoder),
            Part("encode", "backbone_{m}", parts.residual_backbone),
            Part("encode", "crop_{m}", parts.camera_fit),
            Part("encode", "layers_{m}", parts.residual_layers),
            Part("shrink", "shrink_conv_{m}", parts.shrink),
            *HEADS_BY_MODALITY,
        ),
        no_fusion,
        collaborates=False,
        batch_key="inputs_{m}",
        args=HETER_ARGS,
        ignores=ELSEWHERE,
    ),
    POINT_PILLAR,
    POINT_PILLAR_BASELINE,
    POINT_PILLAR_LEVELS,
    replace(
        POINT_PILLAR_BASELINE,
        name="point_pillar_disconet",
        summary="PointPillars with DiscoNet's fusion, the student of a distillation.",
        parts=(*PILLARS, NECK, Part("fuse", "fusion_net", parts.disconet), *HEADS),
        args=PILLAR_ARGS,
        feature_key="feature",
    ),
    replace(
        POINT_PILLAR,
        name="point_pillar_disconet_teacher",
        summary="PointPillars on the early-fused cloud, the teacher of a distillation.",
        parts=with_heads(POINT_PILLAR, [replace(head, key=f"teacher_{head.key}") for head in HEADS]),
        batch_key="teacher_processed_lidar",
        feature_key="teacher_feature",
        freeze=nothing_frozen,
    ),
)

for _row in ASSEMBLIES:
    register_assembly(_row)
