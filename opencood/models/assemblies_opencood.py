"""The table of published models, continued: OpenCOOD and its relatives. Source: spec homogeneous.md 2 to 4.

Data of these models are projected to the ego before they are encoded, so most of them fuse maps as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from opencood.config.flavor import flavor_of
from opencood.config.tree import lookup
from opencood.models import parts, parts_opencood
from opencood.models.assemblies import (
    HEADS,
    PILLAR_ARGS,
    PILLAR_IGNORES,
    PILLARS,
    SHRINK,
    fuse_once,
)
from opencood.models.assembly import Assembly, FuseStage, Part
from opencood.models.builder import register_assembly
from opencood.models.context import Context
from opencood.models.freezing import Freeze, for_fixed_backbone
from opencood.models.fusing import FuseLevels, FuseTelling
from opencood.models.links.compressor import Codec
from opencood.models.links.first_level import first_level
from opencood.models.links.where2comm import WhereLink

NOTHING: frozenset[str] = frozenset()
POSES = frozenset({"pairwise_t_matrix"})
MOTION = frozenset({"prior_encoding"})
# Families whose detectors warp maps where OpenCOOD's get projected data.
WARPING = frozenset({"coalign", "heal"})
# Families whose ``point_pillar_intermediate`` fuses one map.
ONE_MAP = frozenset({"v2xreal", "coopre"})

NECK = Part("encode", "shrink_conv", parts.shrink)
COMPRESSOR = Part("link", "naive_compressor", parts.compression)
LEVEL_ATTENTION = Part("fuse", "fusion_net", parts_opencood.level_attention)
FIRST_BLOCK = {
    "first": ("backbone.blocks.0",),
    "narrow": ("backbone.compression_modules.0.encoder",),
    "widen": ("backbone.compression_modules.0.decoder",),
}


def fuse_from_first(slots: Mapping[str, Any]) -> FuseStage:
    """Fusion at every level of a backbone whose level 0 arrives."""
    return FuseLevels(slots["levels"], slots["fuse"], from_first=True)


def fuse_telling(slots: Mapping[str, Any]) -> FuseStage:
    """One fusion of one map that publishes more than the map."""
    return FuseTelling(slots["fuse"])


def fuse_where(slots: Mapping[str, Any]) -> FuseStage:
    """Where2comm's fusion at every level, from the masked level 0 on."""
    return FuseLevels(slots["levels"], slots["fuse"].fuse_modules, from_first=True)


def on_pillars(name: str, summary: str, fusion: Any, args: Iterable[str] = ()) -> Assembly:
    """A row of PointPillars with one fusion of one map that is not warped."""
    return Assembly(
        name,
        summary,
        (*PILLARS, NECK, COMPRESSOR, Part("fuse", "fusion_net", fusion), *HEADS),
        fuse_once,
        collaborates=True,
        batch_key="processed_lidar",
        args=PILLAR_ARGS | set(args),
        frame="ego",
        reads=NOTHING,
        ignores=PILLAR_IGNORES,
        freeze=for_fixed_backbone,
    )


def with_fusion(row: Assembly, fusion: Callable[[Context], nn.Module]) -> tuple[Part, ...]:
    """The parts of a row with another fusion net."""
    return tuple(replace(part, make=fusion) if part.slot == "fuse" else part for part in row.parts)


INTERMEDIATE = replace(
    on_pillars("point_pillar_intermediate", "PointPillars with attention at every level of its backbone.", None),
    parts=(PILLARS[0], Part("levels", "backbone", parts_opencood.compressed_levels), LEVEL_ATTENTION, *HEADS),
    fuse=fuse_from_first,
    link=first_level,
    probes=FIRST_BLOCK,
)
ONE_MAP_INTERMEDIATE = on_pillars(
    INTERMEDIATE.name, "PointPillars with one attention.", parts_opencood.attention_of_last_filter
)
COALIGN = replace(
    INTERMEDIATE,
    name="point_pillar_coalign",
    summary="PointPillars with attention at every level of a residual backbone (CoAlign).",
    parts=(
        PILLARS[0],
        Part("levels", "backbone", parts_opencood.residual_levels),
        SHRINK,
        Part("link", "naive_compressor", parts_opencood.first_level_compression),
        LEVEL_ATTENTION,
        *HEADS,
    ),
    probes={"first": ("backbone.resnet.layer0",)},
    args=PILLAR_ARGS | {"res_bev_backbone"},
    frame="own",
    reads=POSES,
)
V2VNET = replace(
    on_pillars(
        "point_pillar_v2vnet",
        "PointPillars with V2VNet's rounds of messages.",
        parts_opencood.pixel_v2vnet,
        {"v2vfusion"},
    ),
    frame="own",
    reads=POSES,
)
V2XVIT = replace(
    on_pillars("point_pillar_transformer", "PointPillars with V2X-ViT.", parts_opencood.moving_v2xvit, {"transformer"}),
    reads=MOTION,
)


MASH = replace(
    V2VNET,
    name="point_pillar_mash",
    summary="PointPillars with MASH: neighbours' cells are found by matching, not by poses.",
    parts=(*PILLARS, NECK, COMPRESSOR, *HEADS, Part("fuse", "", parts_opencood.mash)),
    fuse=fuse_telling,
    args=PILLAR_ARGS | {"mash"},
    reads=NOTHING,
)


ROBUST = replace(
    MASH,
    name="point_pillar_v2vnet_robust",
    summary="PointPillars with robust V2VNet: poses are corrected, messages weighted by trust.",
    parts=(*PILLARS, NECK, COMPRESSOR, Part("fuse", "", parts_opencood.robust_v2vnet), *HEADS),
    args=PILLAR_ARGS | {"v2vfusion", "robust", "stage", "max_cav"},
    reads=frozenset({"lidar_pose"}),
)


def v2vnet_of(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """V2V4Real's reads delays too when it is told to."""
    return replace(row, reads=POSES | MOTION) if lookup(args, "v2vfusion.use_temporal_encoding") else row


DOMAINS = frozenset(f"{name}_{part}" for name in ("DA_feature", "DA_instance") for part in ("head", "weight")) | {
    "grl_feature_weight",
    "grl_instance_weight",
}
FAX = on_pillars("point_pillar_fax", "PointPillars with CoBEVT.", parts_opencood.axial, {"fax_fusion"} | DOMAINS)


def fax_of(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """Where domains are adapted the fused map is published: the classifiers of domains read it."""
    return replace(row, feature_key="source_feature") if "DA_feature_head" in args else row


# --- Where2comm ---------------------------------------------------------------------------------

WHERE2COMM = replace(
    on_pillars(
        "point_pillar_where2comm",
        "PointPillars with Where2comm: agents send the cells they are sure of.",
        parts_opencood.where2comm,
        {"where2comm_fusion", "head_dim"},
    ),
    probes={"confidence": ("cls_head", "fusion_net.naive_communication")},
)
WHERE2COMM_LEVELS = replace(
    WHERE2COMM,
    parts=(
        PILLARS[0],
        Part("levels", "backbone", parts_opencood.compressed_levels),
        SHRINK,
        Part("link", "naive_compressor", parts_opencood.unused_compression),
        Part("fuse", "fusion_net", parts_opencood.where2comm),
        *HEADS,
    ),
    fuse=fuse_where,
    probes={
        "level": ("backbone.blocks.0",),
        "confidence": ("backbone.go_on", "shrink_conv", "cls_head", "fusion_net.naive_communication"),
    },
)


def where2comm_of(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """One scale or all of them, and a link with the configured threshold."""
    section = args.get("where2comm_fusion") or {}
    levels = bool(section.get("multi_scale"))
    threshold = (section.get("communication") or {}).get("threshold")
    link = partial(_where_link, threshold, bool(section.get("fully")), compresses=not levels)
    return replace(WHERE2COMM_LEVELS if levels else row, link=link, freeze=_for_fixed_filter)


def _where_link(threshold: float | None, fully: bool, links: Mapping[str, Codec], compresses: bool) -> WhereLink:
    return WhereLink(threshold, fully, next(iter(links.values()), None) if compresses else None)


def _for_fixed_filter(args: Mapping[str, Any], names: Any) -> Freeze:
    """``backbone_fix``, and the Gaussian filter of the confidence, which the published code means to keep."""
    frozen = for_fixed_backbone(args, names)
    return Freeze((*frozen.parts, "fusion_net"), still="nothing")


def warped(row: Assembly) -> Assembly:
    """The same row on maps in each agent's own frame."""
    return replace(row, frame="own", reads=POSES)


def intermediate_of(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """What a family calls ``*_intermediate``: maps warped or projected, and one map of PointPillars or all levels."""
    flavor = flavor_of(hypes)
    if flavor in ONE_MAP and row is INTERMEDIATE:
        return ONE_MAP_INTERMEDIATE
    projected = bool(lookup(hypes, "fusion.args.proj_first"))
    return warped(row) if flavor in WARPING and not projected else row


register_assembly(INTERMEDIATE, intermediate_of)
register_assembly(V2VNET, v2vnet_of)
register_assembly(FAX, fax_of)
register_assembly(WHERE2COMM, where2comm_of)
for _row in (
    COALIGN,
    MASH,
    ROBUST,
    V2XVIT,
    on_pillars("point_pillar_fcooper", "PointPillars with the maximum over agents (F-Cooper).", parts_opencood.maximum),
    on_pillars("point_pillar_opv2v", "PointPillars with one attention (OPV2V).", parts_opencood.attention),
    on_pillars("point_pillar_intermediate_V2VAM", "PointPillars with V2VAM.", parts_opencood.v2vam),
    on_pillars("point_pillar_cobevt", "PointPillars with CoBEVT.", parts_opencood.axial, {"fax_fusion"}),
):
    register_assembly(_row)
