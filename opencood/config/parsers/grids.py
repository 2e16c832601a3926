"""Parsers for voxel and BEV grids, registered under their published names. Source: spec config.md section 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.parsers.context import ParserContext
from opencood.config.parsers.derive import anchor_numbers, bev_geometry, fill, grid_of
from opencood.config.tree import lookup, section, with_value
from opencood.registry import register

RANGE = "preprocess.cav_lidar_range"
VOXEL = "preprocess.args.voxel_size"
ANCHORS = "postprocess.anchor_args"
PRECALC_MODEL = "box_align_pre_calc.stage1_model_config"
PRECALC_POSTPROCESSOR = "box_align_pre_calc.stage1_postprocessor_config"

Tree = Mapping[str, Any]


def _exact(context: ParserContext) -> bool:
    return not context.quirk("grid_from_float_quotient")


def _fill_anchors(
    hypes: Tree, context: ParserContext, parser: str, rounding: str, *, bounds: str = RANGE, at: str = ANCHORS
) -> dict[str, Any]:
    """Write the anchor numbers of a range and the voxel size into ``postprocess.anchor_args``."""
    context.need(hypes, at, parser)
    limits = context.bounds(hypes, bounds, parser)
    voxel = context.voxel(hypes, VOXEL, limits, parser)
    return fill(hypes, at, anchor_numbers(limits, voxel, rounding, _exact(context)))


def _grid_size(hypes: Tree, context: ParserContext, parser: str) -> list[int]:
    limits = context.bounds(hypes, RANGE, parser)
    return grid_of(limits, context.voxel(hypes, VOXEL, limits, parser), "nearest")


def _with_postprocess_grid(hypes: Tree, context: ParserContext, bounds: str) -> Tree:
    """CodeAlign's post-processor additionally finds range and voxel size in its own section, unless written there."""
    if context.flavor != "codealign":
        return hypes
    given = section(hypes, "postprocess")
    defaults = {"cav_lidar_range": lookup(hypes, bounds), "voxel_size": lookup(hypes, VOXEL)}
    return {**hypes, "postprocess": {**defaults, **given}}


@register("yaml_parser", "load_general_params", "load_lift_splat_shoot_params")
def load_general_params(hypes: Tree, context: ParserContext) -> Tree:
    """Anchor numbers from the preprocess range, rounded up; in a modality's own map (STAMP) from its ``gt_range``."""
    if context.prefix:
        return _load_modality_params(hypes, context)
    return _fill_anchors(hypes, context, "load_general_params", "ceil")


def _load_modality_params(hypes: Tree, context: ParserContext) -> Tree:
    """STAMP: range ``postprocess.gt_range``, voxel ``postprocess.voxel_size``, else ``preprocess.args.voxel_size``."""
    parser = "load_general_params"
    own_voxel = "postprocess.voxel_size"
    voxel_path = own_voxel if lookup(hypes, own_voxel) is not None else VOXEL
    context.need(hypes, ANCHORS, parser)
    bounds = context.bounds(hypes, "postprocess.gt_range", parser)
    voxel = context.voxel(hypes, voxel_path, bounds, parser)
    return fill(hypes, ANCHORS, anchor_numbers(bounds, voxel, "ceil", _exact(context)))


@register("yaml_parser", "load_rgb_params")
def load_rgb_params(hypes: Tree, context: ParserContext) -> Tree:
    """Nothing to derive: a camera modality (STAMP)."""
    return hypes


@register("yaml_parser", "load_general_params_heter_task")
def load_general_params_heter_task(hypes: Tree, context: ParserContext) -> Tree:
    """Anchor numbers for every ``postprocess.m<digits>``, from its own ``gt_range`` and ``voxel_size`` (STAMP)."""
    parser = "load_general_params_heter_task"
    tasks = [key for key in section(hypes, "postprocess") if str(key).startswith("m") and str(key)[1:].isdigit()]
    for task in tasks:
        at = f"postprocess.{task}"
        bounds = context.bounds(hypes, f"{at}.gt_range", parser)
        voxel = context.voxel(hypes, f"{at}.voxel_size", bounds, parser)
        context.need(hypes, f"{at}.anchor_args", parser)
        hypes = fill(hypes, f"{at}.anchor_args", anchor_numbers(bounds, voxel, "ceil", _exact(context)))
    return hypes


@register("yaml_parser", "load_point_pillar_params")
def load_point_pillar_params(hypes: Tree, context: ParserContext) -> Tree:
    """Anchor numbers, and the grid size of the pillar scatter."""
    parser = "load_point_pillar_params"
    hypes = _fill_anchors(_with_postprocess_grid(hypes, context, RANGE), context, parser, "ceil")
    scatter = "model.args.point_pillar_scatter"
    context.need(hypes, scatter, parser)
    return fill(hypes, scatter, {"grid_size": _grid_size(hypes, context, parser)})


@register("yaml_parser", "load_second_params")
def load_second_params(hypes: Tree, context: ParserContext) -> Tree:
    """Anchor numbers, and ``model.args.grid_size``."""
    parser = "load_second_params"
    hypes = _fill_anchors(hypes, context, parser, context.quirk("second_grid_rounding"))
    context.need(hypes, "model.args", parser)
    return fill(hypes, "model.args", {"grid_size": _grid_size(hypes, context, parser)})


@register("yaml_parser", "load_voxel_params")
def load_voxel_params(hypes: Tree, context: ParserContext) -> Tree:
    """Anchor numbers from the anchors' own range, truncated; W, H, D also in the model's arguments."""
    bounds = f"{ANCHORS}.cav_lidar_range"
    filled = _fill_anchors(
        _with_postprocess_grid(hypes, context, bounds), context, "load_voxel_params", "truncate", bounds=bounds
    )
    anchors = filled["postprocess"]["anchor_args"]
    if isinstance(lookup(filled, "model.args"), Mapping):
        filled = fill(filled, "model.args", {key: anchors[key] for key in "WHD"})
    if section(filled, PRECALC_POSTPROCESSOR) and context.flavor != "coopre":
        filled = with_value(filled, f"{PRECALC_POSTPROCESSOR}.anchor_args", anchors)
    return filled


@register("yaml_parser", "load_point_pillar_params_stage1")
def load_point_pillar_params_stage1(hypes: Tree, context: ParserContext) -> Tree:
    """Grid size and anchor numbers of the stage-1 detector of ``box_align_pre_calc``."""
    parser = "load_point_pillar_params_stage1"
    at = f"{PRECALC_POSTPROCESSOR}.anchor_args"
    scatter = f"{PRECALC_MODEL}.point_pillar_scatter"
    context.need(hypes, scatter, parser)
    hypes = fill(hypes, scatter, {"grid_size": _grid_size(hypes, context, parser)})
    return _fill_anchors(hypes, context, parser, "truncate", at=at)


@register("yaml_parser", "load_bev_params")
def load_bev_params(hypes: Tree, context: ParserContext) -> Tree:
    """``geometry_param`` for the BEV pre-processor, post-processor and model (PIXOR)."""
    parser = "load_bev_params"
    bounds = context.bounds(hypes, RANGE, parser)
    resolution = context.need(hypes, "preprocess.args.res", parser)
    rate = context.need(hypes, "preprocess.args.downsample_rate", parser)
    derived = {"geometry_param": bev_geometry(bounds, resolution, rate, _exact(context))}
    for at in ("preprocess", "postprocess", "model.args"):
        if isinstance(lookup(hypes, at), Mapping):
            hypes = fill(hypes, at, derived)
    return hypes
