"""The table of published models, continued: FPV-RCNN and its voxel variant. Source: spec homogeneous.md 4."""

from __future__ import annotations

from torch import nn

from opencood.models import parts_voxels
from opencood.models.assemblies import no_fusion
from opencood.models.assemblies_voxels import IGNORES, SPARSE, SPARSE_ARGS
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly
from opencood.models.context import Context
from opencood.models.heads.second_stage import (
    GridRefinement,
    KeypointFeatures,
    SecondStage,
    VoxelRefinement,
    check_inactive,
)

STAGE_ARGS = SPARSE_ARGS | {"ssfa", "head", "shrink_header", "activate_stage2"}


def keypoint_stage(ctx: Context) -> nn.Module:
    """``vsa`` and ``roi_head`` of FPV-RCNN."""
    check_inactive(ctx.args, "fpvrcnn")
    section = ctx.need("vsa")
    vsa = KeypointFeatures(section["sa_layer"], section["features_source"], section["num_out_features"])
    head = ctx.need("roi_head")
    roi_head = GridRefinement(vsa.out_channels, head["n_fc_neurons"], head["dp_ratio"], head["roi_grid_pool"])
    return SecondStage(vsa=vsa, roi_head=roi_head)


def voxel_stage(ctx: Context) -> nn.Module:
    """``roi_head`` of the voxel variant."""
    check_inactive(ctx.args, "fvoxelrcnn")
    head = ctx.need("roi_head")
    return SecondStage(roi_head=VoxelRefinement(head["n_fc_neurons"], head["dp_ratio"], head["pool_cfg"]))


for _name, _stage, _keys in (
    ("fpvrcnn", keypoint_stage, {"vsa", "matcher", "roi_head", "post_processer"}),
    ("fvoxelrcnn", voxel_stage, {"matcher", "roi_head", "post_processer"}),
):
    register_assembly(
        Assembly(
            _name,
            "CIA-SSD for every agent, as the first stage of a detector in two.",
            (*SPARSE, Part("head", "head", parts_voxels.stage_head), Part("refine", "", _stage)),
            no_fusion,
            collaborates=False,
            batch_key="processed_lidar",
            args=STAGE_ARGS | _keys,
            ignores=IGNORES,
        )
    )
