"""Parts of the homogeneous detectors of OpenCOOD and its relatives.

Like :mod:`opencood.models.parts`. Source: spec homogeneous.md 2 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opencood.models.backbones.pixor_levels import LEVELS, PixorLevels
from opencood.models.context import Context
from opencood.models.encoders.picture import BevPicture
from opencood.models.fusion.attention import AttFusion
from opencood.models.fusion.mash import MashFusion
from opencood.models.fusion.maximum import MaxFusion
from opencood.models.fusion.v2vnet_robust import RobustV2VNet
from opencood.models.fusion.v2xvit_moving import MovingV2XViT
from opencood.models.fusion.where2comm_levels import Where2commLevels
from opencood.models.links.autoencoder import AutoEncoder
from opencood.models.links.compressor import NaiveCompressor
from opencood.models.parts_variants import PIXOR_ARGS
from opencood.registry import REGISTRY, Entry

MAX_CAV = 5  # where a file does not say

# --- levels -------------------------------------------------------------------------------------


def compressed_levels(ctx: Context) -> nn.Module:
    """``base_bev_backbone`` on the map that arrives, with auto-encoders where it says ``compression``."""
    section = {"inplanes": ctx.width, **ctx.need("base_bev_backbone")}
    net = REGISTRY.build("backbone", "CompressedBEVBackbone", section, where=ctx.where("base_bev_backbone"))
    ctx.check_width(net.in_channels, "base_bev_backbone")
    return net


def residual_levels(ctx: Context) -> nn.Module:
    """``res_bev_backbone`` on the map that arrives."""
    section = ctx.need("res_bev_backbone")
    net = REGISTRY.build("backbone", "ResNetBEVBackbone", section, where=ctx.where("res_bev_backbone"))
    ctx.check_width(net.in_channels, "res_bev_backbone")
    return net


def pixor_picture(ctx: Context) -> nn.Module:
    """The picture from above."""
    return BevPicture(ctx.need("geometry_param")["input_shape"][-1])


def pixor_levels(ctx: Context) -> nn.Module:
    """PIXOR's net as levels."""
    entry = Entry("backbone", "PixorLevels", PixorLevels, frozenset({"decode", "anchor_number"}))
    args = {key: ctx.args[key] for key in PIXOR_ARGS if key in ctx.args}
    return PixorLevels(**REGISTRY.check_arguments(entry, args, ctx.where()))


# --- link ---------------------------------------------------------------------------------------


def stage_compression(ctx: Context) -> nn.Module | None:
    """``compression``: the number of halvings; 0 means none."""
    stages = ctx.args.get("compression") or 0
    return AutoEncoder(_width(ctx), stages) if stages else None


def first_level_compression(ctx: Context) -> nn.Module | None:
    """``compression``: the ratio for level 0 of ``res_bev_backbone``; 0 means none."""
    ratio = ctx.args.get("compression") or 0
    return NaiveCompressor(ctx.need("res_bev_backbone")["num_filters"][0], ratio) if ratio else None


def unused_compression(ctx: Context) -> nn.Module | None:
    """``compression`` of a map that is not sent: part of checkpoints, never run."""
    ratio = ctx.args.get("compression") or 0
    return NaiveCompressor(ctx.need("shrink_header")["dim"][-1], ratio) if ratio else None


# --- fuse ---------------------------------------------------------------------------------------


def maximum(ctx: Context) -> nn.Module:
    """The largest value."""
    return MaxFusion()


def attention(ctx: Context) -> nn.Module:
    """Attention at the width that arrives."""
    return AttFusion(_width(ctx))


def attention_of_last_filter(ctx: Context) -> nn.Module:
    """Attention scaled by the width of the backbone's last level, whatever arrives (V2X-Real)."""
    return AttFusion(ctx.need("base_bev_backbone")["num_filters"][-1])


def level_attention(ctx: Context) -> nn.Module:
    """Attention at the width of every level."""
    return nn.ModuleList(AttFusion(width) for width in ctx.level_widths)


def pixor_attention(ctx: Context) -> nn.Module:
    """Attention at PIXOR's levels."""
    return nn.ModuleList(AttFusion(width) for width in LEVELS)


def v2vam(ctx: Context) -> nn.Module:
    """V2VAM at the width that arrives."""
    return REGISTRY.build("fusion", "v2vam", {"in_channels": _width(ctx)})


def axial(ctx: Context) -> nn.Module:
    """``fax_fusion``: CoBEVT's attention; ``mask`` leaves out empty slots."""
    section = dict(ctx.need("fax_fusion"))
    masked = bool(section.pop("mask", False))
    net = REGISTRY.build("fusion", "cobevt", section | {"masked": masked}, where=ctx.where("fax_fusion"))
    ctx.check_width(section["input_dim"], "fax_fusion.input_dim")
    return net


def pixel_v2vnet(ctx: Context) -> nn.Module:
    """``v2vfusion`` with warps in pixels."""
    turns = {
        "about_centre": ctx.quirk("v2vnet_maps_about_centre"),
        "masks_about_centre": ctx.quirk("v2vnet_masks_about_centre"),
    }
    section = ctx.need("v2vfusion")
    net = REGISTRY.build("fusion", "v2vnet_pixel", section, where=ctx.where("v2vfusion"), **turns)
    ctx.check_width(section["in_channels"], "v2vfusion.in_channels")
    return net


def moving_v2xvit(ctx: Context) -> nn.Module:
    """``transformer.encoder``: V2X-ViT with delays, kinds and corrections."""
    return MovingV2XViT(ctx.need("transformer")["encoder"])


def mash(ctx: Context) -> nn.Module:
    """``mash``: cells are fetched from where they match."""
    entry = Entry("fusion", "mash", MashFusion)
    keeps, halves = not ctx.quirk("mash_keeps_unmatched"), ctx.quirk("mash_half_precision")
    section = REGISTRY.check_arguments(entry, ctx.need("mash"), ctx.where("mash"), keeps_matches=keeps, halves=halves)
    ctx.check_width(section["feature_dim"], "mash.feature_dim")
    return MashFusion(**section)


def robust_v2vnet(ctx: Context) -> nn.Module:
    """``v2vfusion`` and ``robust``: V2VNet that corrects poses."""
    keys = ("in_channels", "num_iteration", "conv_gru", "gru_flag")
    section = {key: value for key, value in ctx.need("v2vfusion").items() if key in keys}
    overlap = not ctx.quirk("v2vnet_robust_constant_overlap")
    slots = ctx.args.get("max_cav", MAX_CAV)
    return RobustV2VNet(section, ctx.need("robust"), slots, ctx.args.get("stage", 2), sees_overlap=overlap)


def where2comm(ctx: Context) -> nn.Module:
    """``where2comm_fusion``: attention at one scale or at every level, and the confidence."""
    section = ctx.need("where2comm_fusion")
    smooth: Mapping[str, Any] = section.get("communication", {}).get("gaussian_smooth") or {}
    widths = section["num_filters"] if section.get("multi_scale") else [section["in_channels"]]
    return Where2commLevels(widths, smooth.get("k_size"), smooth.get("c_sigma", 1.0))


def _width(ctx: Context) -> int:
    assert ctx.width is not None, "an encoder says how wide its map is"
    return ctx.width
