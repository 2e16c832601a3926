"""The table of published models, continued: pretraining, rows that end before fuse. Source: spec coopre.md 3, 9, 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opencood.config.pretrain import pretraining_of
from opencood.models import parts, parts_pretraining
from opencood.models.assemblies import PILLAR_IGNORES, no_fusion
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly

# What is predicted by target: name of the head, how it is built, published output.
HEADS = {
    "points": (
        ("coor_conv", parts_pretraining.points_of_cell, "pred_coor"),
        ("num_conv", parts_pretraining.count_of_cell, "pred_num"),
    ),
    "occupancy": (("occupancy_conv", parts_pretraining.heights_of_cell, "pred_occupancy"),),
    "bev_map": (("map_conv", parts_pretraining.heights_of_cell, "pred_map"),),
    "contrast": (("projection", parts_pretraining.embedding, "embedding"),),
}
# Of detectors, whose files pretraining shares.
IGNORES = PILLAR_IGNORES | {
    *("batch_size", "grid_size", "height_compression", "anchor_number", "anchor_num", "num_class", "dir_args"),
    *("shrink_header", "compression", "backbone_fix", "transformer", "in_head"),
}

SECOND = Assembly(
    "second_coopre",
    "Pretraining of SECOND: points, occupancy or a map of what was hidden, or a contrast of two views (CooPre).",
    (
        Part("encode", "", parts_pretraining.masked_second),
        Part("encode", "backbone_2d", parts_pretraining.backbone_2d),
        Part("levels", "backbone_2d", parts_pretraining.idle_backbone_2d),
    ),
    no_fusion,
    collaborates=False,
    batch_key="processed_lidar",
    args=frozenset({"voxel_size", "lidar_range", "mean_vfe", "backbone_3d", "base_bev_backbone"}),
    ignores=IGNORES,
)
PILLARS = replace(
    SECOND,
    name="masked_bev_pretrain",
    summary="The same for SECOND or, with the arguments of PointPillars, for those.",
    parts=(
        Part("encode", "", parts_pretraining.masked_pillars),
        Part("encode", "backbone", parts.homogeneous_backbone),
    ),
    args=frozenset({"voxel_size", "lidar_range", "pillar_vfe", "point_pillar_scatter", "base_bev_backbone"}),
)


def predicting(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """The row with decoder and heads of the configured target; SECOND's lie in its ``backbone_3d``, as published."""
    pillars = row is PILLARS and "pillar_vfe" in args
    within = "" if pillars else "backbone_3d."
    base = replace(PILLARS if pillars else SECOND, name=row.name)
    decode = Part("shrink", f"{within}decoder", parts_pretraining.decoder)
    heads = (Part("head", within + name, make, key) for name, make, key in HEADS[pretraining_of(hypes).target])
    return replace(base, parts=(base.parts[0], decode, *heads, *base.parts[1:]))


register_assembly(SECOND, predicting)
register_assembly(PILLARS, predicting)
