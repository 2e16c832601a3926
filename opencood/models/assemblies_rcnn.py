"""The table of published models, continued: FPV-RCNN and its voxel variant. Source: spec homogeneous.md 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from opencood.config.tree import section
from opencood.errors import ConfigError
from opencood.models import parts_voxels
from opencood.models.assemblies import no_fusion
from opencood.models.assemblies_voxels import IGNORES, SPARSE, SPARSE_ARGS
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import AssemblyBuilder, build_detector
from opencood.models.context import Context
from opencood.models.detector import Detector
from opencood.models.encoders.second import SparseEncoder
from opencood.models.heads.second_stage import GridRefinement, KeypointFeatures, SecondStage, VoxelRefinement
from opencood.models.two_stage import STRIDES, KeypointDetector, Second, TwoStageDetector, VoxelDetector
from opencood.registry import REGISTRY, register

POSTPROCESSOR = "FpvrcnnPostprocessor"
STAGE_ARGS = SPARSE_ARGS | {"ssfa", "head", "shrink_header", "activate_stage2"}


def keypoint_stage(ctx: Context) -> nn.Module:
    """``vsa`` and ``roi_head`` of FPV-RCNN."""
    own = ctx.need("vsa")
    vsa = KeypointFeatures(own["sa_layer"], own["features_source"], own["num_out_features"])
    head = ctx.need("roi_head")
    roi_head = GridRefinement(vsa.out_channels, head["n_fc_neurons"], head["dp_ratio"], head["roi_grid_pool"])
    return SecondStage(vsa=vsa, roi_head=roi_head)


def voxel_stage(ctx: Context) -> nn.Module:
    """``roi_head`` of the voxel variant."""
    head = ctx.need("roi_head")
    return SecondStage(roi_head=VoxelRefinement(head["n_fc_neurons"], head["dp_ratio"], head["pool_cfg"]))


class TwoStageBuilder(AssemblyBuilder):
    """Builds the row; with ``activate_stage2`` a detector that runs its second stage."""

    def __init__(self, row: Assembly, active: type[TwoStageDetector]) -> None:
        super().__init__(row)
        self.active = active

    def __call__(self, hypes: Mapping[str, Any], train_flag: bool = True, **args: Any) -> Detector:
        """The detector for ``model.args``.

        Raises:
            ConfigError: a section is missing, or sizes of boxes are in another order than hwl.
        """
        if not args.get("activate_stage2"):
            return build_detector(self.row, args, hypes, train_flag)
        detector = build_detector(replace(self.row, detector=self.active), args, hypes, train_flag)
        assert isinstance(detector, TwoStageDetector)
        (encoder,) = (part for part in detector.nameless if isinstance(part, SparseEncoder))
        encoder.keeps_levels = True
        backbone: Any = encoder.get_submodule(encoder.name)
        detector.second = second_stage_of(args, hypes, dict(zip(STRIDES, backbone.level_shapes, strict=True)))
        return detector


def second_stage_of(args: Mapping[str, Any], hypes: Mapping[str, Any], grids: Mapping[str, Any]) -> Second:
    """What the second stage needs besides its networks."""
    # Published files repeat the section in model.args; the parser fills in the first.
    postprocess = section(hypes, "postprocess") or args.get("post_processer")
    if not postprocess:
        raise ConfigError("model.args.post_processer: missing; the second stage looks at the boxes of the first.")
    if postprocess.get("order") != "hwl":
        raise ConfigError(f"postprocess.order: the second stage codes boxes as hwl, not '{postprocess.get('order')}'.")
    vsa = args.get("vsa") or {}
    return Second(
        REGISTRY.build("postprocessor", POSTPROCESSOR, {"section": postprocess}, where="postprocess"),
        postprocess["order"],
        args["voxel_size"],
        args["lidar_range"],
        int(vsa.get("num_keypoints", 0)),
        bool(vsa.get("enlarge_selection_boxes", True)),
        grids,
    )


for _name, _stage, _active, _keys in (
    ("fpvrcnn", keypoint_stage, KeypointDetector, {"vsa", "matcher", "roi_head", "post_processer"}),
    ("fvoxelrcnn", voxel_stage, VoxelDetector, {"matcher", "roi_head", "post_processer"}),
):
    _row = Assembly(
        _name,
        "CIA-SSD for every agent; with activate_stage2 its boxes are merged and looked at once more.",
        (*SPARSE, Part("head", "head", parts_voxels.stage_head), Part("refine", "", _stage)),
        no_fusion,
        collaborates=False,
        batch_key="processed_lidar",
        args=STAGE_ARGS | _keys,
        ignores=IGNORES,
    )
    register("model", _name)(TwoStageBuilder(_row, _active))
