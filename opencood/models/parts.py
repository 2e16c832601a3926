"""The parts that detectors are made of: how each is built from the YAML.

Every function takes the :class:`Context` of the part and returns the module, or None when the YAML does without it.
Source: spec models.md 4.1, 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opencood.errors import ConfigError
from opencood.models.backbones.aligner import AlignNet
from opencood.models.backbones.crop import CenterFit
from opencood.models.backbones.shrink import DownsampleConv
from opencood.models.context import CENTRE_TOLERANCE, Context
from opencood.models.heads.anchor import box_head, class_head, direction_head
from opencood.models.links.compressor import NaiveCompressor
from opencood.models.unavailable import why_unavailable
from opencood.registry import REGISTRY, Entry

# Arguments of PointPillar's encoder, which lie flat in ``model.args`` of a homogeneous model.
PILLAR_KEYS = ("voxel_size", "lidar_range", "pillar_vfe", "point_pillar_scatter")

# --- encode --------------------------------------------------------------------------------------


def encoder(ctx: Context) -> nn.Module:
    """The encoder a modality names in ``core_method``."""
    name, where = ctx.need("core_method"), ctx.where("encoder_args")
    if not REGISTRY.has("encoder", name):
        where = ctx.where("core_method")
        if (reason := why_unavailable(str(name))) is not None:
            raise ConfigError(f"{where}: encoder '{name}' is published, but {reason}.")
    return REGISTRY.build("encoder", name, ctx.need("encoder_args"), where=where)


def pillar_encoder(ctx: Context) -> nn.Module:
    """PointPillar from the arguments of a homogeneous model, which lie flat in ``model.args``."""
    return REGISTRY.build("encoder", "point_pillar", {key: ctx.need(key) for key in PILLAR_KEYS}, where=ctx.where())


def base_backbone(ctx: Context) -> nn.Module | None:
    """``backbone_args`` as plain backbone; ``identity`` means none."""
    return _backbone(ctx, "BaseBEVBackbone", "backbone_args")


def residual_backbone(ctx: Context) -> nn.Module | None:
    """``backbone_args`` as residual backbone; ``identity`` means none."""
    return _backbone(ctx, "ResNetBEVBackbone", "backbone_args")


def residual_layers(ctx: Context) -> nn.Module | None:
    """``layers_args``: a residual backbone that takes the map as its level 0."""
    return _backbone(ctx, "ResNetBEVLayers", "layers_args")


def homogeneous_backbone(ctx: Context) -> nn.Module | None:
    """``base_bev_backbone``: plain, or residual when it says ``resnet: true``."""
    residual = ctx.need("base_bev_backbone").get("resnet", False)
    return _backbone(ctx, "ResNetBEVBackbone" if residual else "BaseBEVBackbone", "base_bev_backbone")


def aligner(ctx: Context) -> nn.Module:
    """``aligner_args`` of a modality."""
    entry = Entry("backbone", "AlignNet", AlignNet)
    return AlignNet(**REGISTRY.check_arguments(entry, ctx.need("aligner_args"), ctx.where("aligner_args")))


def camera_fit(ctx: Context) -> nn.Module | None:
    """Crop or padding of a camera's map to the scene's; nothing for other sensors."""
    ratios = camera_ratios(ctx)
    return None if ratios is None else CenterFit(*ratios)


def camera_ratios(ctx: Context) -> tuple[float, float] | None:
    """(H, W) ratios of the scene's range to a camera modality's own; None for other sensors (spec models.md 2.6)."""
    if ctx.own.get("sensor_type") != "camera":
        return None
    grid = ctx.need("camera_mask_args")["grid_conf"]
    for axis in ("xbound", "ybound"):
        if abs(grid[axis][0] + grid[axis][1]) > CENTRE_TOLERANCE:
            raise ConfigError(f"{ctx.where('camera_mask_args', 'grid_conf', axis)}: {grid[axis]} is not centred at 0.")
    half_height, half_width = (metres / 2 for metres in ctx.extent)
    return half_height / grid["ybound"][1], half_width / grid["xbound"][1]


def shrink(ctx: Context) -> nn.Module | None:
    """``shrink_header``; nothing when absent or ``use: false``."""
    section = ctx.own.get("shrink_header")
    if not section or section.get("use") is False:
        return None
    entry = REGISTRY.get("aligner", "downsample")
    neck = DownsampleConv(**REGISTRY.check_arguments(entry, section, ctx.where("shrink_header")))
    ctx.check_width(neck.in_channels, "shrink_header")
    return neck


# --- link ---------------------------------------------------------------------------------------


def compressor(ctx: Context) -> nn.Module | None:
    """``compressor``: {input_dim, compress_ratio}."""
    section = ctx.args.get("compressor")
    if not section:
        return None
    link = REGISTRY.build("link", "compressor", section, where=ctx.where("compressor"))
    ctx.check_width(link.in_channels, "compressor")
    return link


def compression(ctx: Context) -> nn.Module | None:
    """``compression``: the ratio; 0 means none."""
    ratio = ctx.args.get("compression") or 0
    if not ratio or ctx.width is None:
        return None
    return NaiveCompressor(ctx.width, ratio)


# --- fuse ---------------------------------------------------------------------------------------


def fusion(ctx: Context) -> nn.Module:
    """``fusion_method`` with the arguments of the key of the same name."""
    method = ctx.need("fusion_method")
    return REGISTRY.build("fusion", method, _fusion_args(ctx, method), where=_fusion_where(ctx, method))


def disconet(ctx: Context) -> nn.Module:
    """DiscoNet's fusion at the width that arrives."""
    return REGISTRY.build("fusion", "disconet", {"feat_dim": ctx.width})


def fusion_per_level(ctx: Context) -> nn.Module:
    """One ``fusion_method`` per level; a list argument holds one value per level."""
    method = ctx.need("fusion_method")
    args, count = _fusion_args(ctx, method), len(ctx.level_widths)
    for key, value in args.items():
        if isinstance(value, list) and len(value) != count:
            raise ConfigError(f"{ctx.where(method, key)}: {count} levels need {count} values, not {value}.")
    of_level = [{k: v[i] if isinstance(v, list) else v for k, v in args.items()} for i in range(count)]
    where = _fusion_where(ctx, method)
    return nn.ModuleList(REGISTRY.build("fusion", method, own, where=where) for own in of_level)


def fusion_levels(ctx: Context) -> nn.Module | None:
    """``fusion_backbone``: the residual backbone whose levels are fused, the map that arrives being level 0."""
    return _backbone(ctx, "ResNetBEVLayers", "fusion_backbone")


def homogeneous_levels(ctx: Context) -> nn.Module | None:
    """``base_bev_backbone`` with levels: residual unless it says ``resnet: false``."""
    residual = ctx.need("base_bev_backbone").get("resnet", True)
    return _backbone(ctx, "ResNetBEVBackbone" if residual else "BaseBEVBackbone", "base_bev_backbone")


def pyramid(ctx: Context) -> nn.Module:
    """``fusion_backbone`` as pyramid fusion."""
    section = {"resnext": None, **ctx.need("fusion_backbone")}
    if section["resnext"] is None:
        raise ConfigError(f"{ctx.where('fusion_backbone')}: missing key 'resnext' (true or false).")
    ratios = {m: camera_ratios(Context(ctx.hypes, ctx.args, m)) for m in modalities(ctx.args)}
    cameras = {m: pair for m, pair in ratios.items() if pair is not None} if ctx.quirk("camera_crop_mask") else {}
    net = REGISTRY.build(
        "fusion",
        "pyramid",
        section,
        where=ctx.where("fusion_backbone"),
        camera_ratios=cameras,
        crop_wraps=ctx.quirk("camera_crop_mask_wrapped"),
    )
    ctx.check_width(net.in_channels, "fusion_backbone")
    return net


# --- detect -------------------------------------------------------------------------------------


def class_logits(ctx: Context) -> nn.Module:
    """Classes of every anchor."""
    return class_head(head_width(ctx), *anchor_counts(ctx))


def box_residuals(ctx: Context) -> nn.Module:
    """Boxes of every anchor."""
    return box_head(head_width(ctx), *anchor_counts(ctx))


def direction_bins(ctx: Context) -> nn.Module | None:
    """Direction bins of every anchor; nothing without ``dir_args``."""
    section = ctx.args.get("dir_args")
    if not section:
        return None
    return direction_head(head_width(ctx), anchor_counts(ctx)[0], section["num_bins"])


def class_logits_single(ctx: Context) -> nn.Module | None:
    """Classes of every anchor by each agent alone, when ``supervise_single`` asks for it."""
    return (
        class_head(head_width(ctx, "in_head_single"), *anchor_counts(ctx)) if ctx.args.get("supervise_single") else None
    )


def box_residuals_single(ctx: Context) -> nn.Module | None:
    """Boxes of every anchor by each agent alone, when ``supervise_single`` asks for it."""
    return (
        box_head(head_width(ctx, "in_head_single"), *anchor_counts(ctx)) if ctx.args.get("supervise_single") else None
    )


def direction_bins_single(ctx: Context) -> nn.Module | None:
    """Direction bins of every anchor by each agent alone, when ``supervise_single`` asks for it."""
    section = ctx.args.get("dir_args")
    if not section or not ctx.args.get("supervise_single"):
        return None
    return direction_head(head_width(ctx, "in_head_single"), anchor_counts(ctx)[0], section["num_bins"])


def modalities(args: Mapping[str, Any]) -> list[str]:
    """The modality names of a model, keys m<digits>, in the order of the YAML."""
    return [key for key in args if key[:1] == "m" and key[1:].isdigit()]


def _backbone(ctx: Context, name: str, key: str) -> nn.Module | None:
    section = ctx.need(key)
    if section == "identity":
        return None
    net = REGISTRY.build("backbone", name, section, where=ctx.where(key))
    ctx.check_width(net.in_channels, key)
    return net


def _fusion_args(ctx: Context, method: str) -> dict[str, Any]:
    section = ctx.args.get(method) or {}
    return dict(section) if isinstance(section, Mapping) else {"in_channels": section}


def _fusion_where(ctx: Context, method: str) -> str:
    return ctx.where(method if REGISTRY.has("fusion", method) else "fusion_method")


def anchor_counts(ctx: Context) -> tuple[int, int]:
    """Anchors per cell and classes of the heads."""
    anchors = ctx.args.get("anchor_number", ctx.args.get("anchor_num"))
    if anchors is None:
        raise ConfigError("model.args: missing key 'anchor_number' (anchors per cell).")
    return anchors, ctx.args.get("num_class", 1)


def head_width(ctx: Context, key: str = "in_head") -> int:
    """Channels that arrive at the heads, checked against what the YAML declares."""
    declared = (ctx.own.get("head_args") or ctx.args).get(key, ctx.width)
    if declared is None:
        raise ConfigError(f"{ctx.where()}: missing key '{key}' (channels that arrive at the heads).")
    ctx.check_width(declared, key)
    return declared
