"""Parts of detectors whose whole YAML lies below a modality. Like :mod:`opencood.models.parts`.

Source: spec codealign.md 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from opencood.errors import ConfigError, nearest
from opencood.models import parts
from opencood.models.backbones.crop import CenterFit
from opencood.models.context import Context
from opencood.models.heads.anchor import box_head, class_head, direction_head
from opencood.models.heads.conv_decoder import ConvDecoder
from opencood.models.heads.segmentation import ClassMaps, SegmentationHead
from opencood.registry import REGISTRY, Entry

Make = Callable[[Context], nn.Module | None]
PYRAMIDS = ("pyramid", "pyramid_codebook")
# What a fusion calls the number of channels when its arguments are that number alone.
WIDTH_KEYS = {"att": "feat_dim", "disconet": "feat_dim"}
# (boxes per cell, numbers of a box, whether there are directions); None: as many as anchors.
HEAD_METHODS = {
    "point_pillar_pyramid_object_detection_head": (None, 7, True),
    "point_pillar_object_detection_head": (1, 7, True),
    "pixor_head": (1, 6, False),
}
# What draws maps of the ground: whether a decoder stands before it.
SEGMENTATION_METHODS = {"bev_seg_head": True, "seg_head": False}
DEFAULT_HEAD = "point_pillar_pyramid_object_detection_head"


def in_block(make: Make) -> Make:
    """A part that finds below its modality what others find in ``model.args``."""

    def made(ctx: Context) -> nn.Module | None:
        return make(replace(ctx, args={**ctx.args, **ctx.own}))

    return made


def encoder(ctx: Context) -> nn.Module | None:
    """The encoder of a modality with one sensor."""
    return None if _sensors(ctx) else parts.encoder(ctx)


def camera_encoder(ctx: Context) -> nn.Module | None:
    """The camera's encoder of a modality with two sensors."""
    return _encoder_of(ctx, "camera")


def lidar_encoder(ctx: Context) -> nn.Module | None:
    """The LiDAR's encoder of a modality with two sensors; its map is added to the camera's."""
    return _encoder_of(ctx, "lidar")


def camera_fit_of_pair(ctx: Context) -> nn.Module | None:
    """Crop or padding of the camera's map before the LiDAR's is added to it."""
    if not _sensors(ctx):
        return None
    as_camera = {**ctx.args, str(ctx.modality): {**ctx.own, "sensor_type": "camera"}}
    ratios = parts.camera_ratios(replace(ctx, args=as_camera))
    return None if ratios is None else CenterFit(*ratios)


def backbone(ctx: Context) -> nn.Module | None:
    """``backbone_args``; none when absent."""
    return parts.residual_backbone(ctx) if ctx.own.get("backbone_args") else None


def aligner(ctx: Context) -> nn.Module | None:
    """``aligner_args``; none when absent."""
    return parts.aligner(ctx) if ctx.own.get("aligner_args") else None


def fusion(ctx: Context) -> nn.Module:
    """``fusion_method`` with the arguments of ``fusion_backbone``: a mapping, or the number of channels."""
    method, section = ctx.need("fusion_method"), ctx.args.get("fusion_backbone")
    if method in PYRAMIDS:
        return parts.pyramid(ctx)
    if isinstance(section, int):
        section = {WIDTH_KEYS.get(method, "in_channels"): section}
    return REGISTRY.build("fusion", method, section or {}, where=ctx.where("fusion_backbone"))


def shrink(ctx: Context) -> nn.Module | None:
    """``shrink_header`` of the modality; none when absent."""
    return parts.shrink(ctx)


def class_logits(ctx: Context) -> nn.Module | None:
    """Classes by the head that ``head_method`` names; none where it draws maps."""
    return None if _draws(ctx) else class_head(parts.head_width(ctx), _head(ctx)[0])


def box_residuals(ctx: Context) -> nn.Module | None:
    """Boxes by the head that ``head_method`` names; none where it draws maps."""
    if _draws(ctx):
        return None
    count, numbers, _ = _head(ctx)
    return box_head(parts.head_width(ctx), count, numbers=numbers)


def direction_bins(ctx: Context) -> nn.Module | None:
    """Directions by the head that ``head_method`` names; none without ``dir_args``."""
    if _draws(ctx):
        return None
    count, _, turns = _head(ctx)
    section: Mapping[str, Any] | None = ctx.args.get("dir_args")
    return direction_head(parts.head_width(ctx), count, section["num_bins"]) if turns and section else None


def segmentation(ctx: Context) -> nn.Module | None:
    """Maps of the ground by the head that ``head_method`` names; none where it finds boxes."""
    if not _draws(ctx):
        return None
    decoder = None
    if SEGMENTATION_METHODS[ctx.args["head_method"]]:
        entry = Entry("head", "decoder_args", ConvDecoder)
        decoder = ConvDecoder(**REGISTRY.check_arguments(entry, ctx.need("decoder_args"), ctx.where("decoder_args")))
        ctx.check_width(decoder.in_channels, "decoder_args")
    width = ctx.need("seg_head_dim")
    (ctx if decoder is None else ctx.carrying(decoder.out_channels)).check_width(width, "seg_head_dim")
    classes = (ctx.need(f"output_class_{kind}") for kind in ("dynamic", "static"))
    return SegmentationHead(ClassMaps(width, str(ctx.args.get("target", "both")), *classes), decoder)


def _draws(ctx: Context) -> bool:
    return ctx.args.get("head_method") in SEGMENTATION_METHODS


def _head(ctx: Context) -> tuple[int, int, bool]:
    method = ctx.args.get("head_method") or DEFAULT_HEAD
    if method not in HEAD_METHODS:
        valid = [*HEAD_METHODS, *SEGMENTATION_METHODS]
        raise ConfigError(
            f"{ctx.where('head_method')}: '{method}' is none of {', '.join(valid)}.{nearest(str(method), valid)}"
        )
    count, numbers, turns = HEAD_METHODS[method]
    return (parts.anchor_counts(ctx)[0] if count is None else count), numbers, turns


def _sensors(ctx: Context) -> Mapping[str, str] | None:
    """``core_method`` by sensor, of a modality with two."""
    named = ctx.need("core_method")
    return named if isinstance(named, Mapping) else None


def _encoder_of(ctx: Context, sensor: str) -> nn.Module | None:
    named = _sensors(ctx)
    if named is None or sensor not in named:
        return None
    key = f"encoder_args_{sensor}"
    made = REGISTRY.build("encoder", named[sensor], ctx.need(key), where=ctx.where(key))
    made.reads = sensor
    return made
