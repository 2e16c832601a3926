"""Parts of the homogeneous detectors with other sensors or other heads: cameras, PIXOR, CenterPoint, uncertainty.

Like :mod:`opencood.models.parts`. Source: spec models.md 4.2.
"""

from __future__ import annotations

from torch import nn

from opencood.errors import ConfigError
from opencood.models.context import Context
from opencood.models.heads.center import CenterDecoder, center_box_head
from opencood.models.heads.pixor import PixorHead
from opencood.models.parts import anchor_counts, head_width
from opencood.registry import REGISTRY

# Arguments of the encoders, which lie flat in ``model.args`` here.
CAMERA_ARGS = (
    *("grid_conf", "data_aug_conf", "img_downsample", "img_features", "camera_encoder"),
    *("use_depth_gt", "depth_supervision", "trunk_weights", "drop_connect"),
)
PIXOR_ARGS = ("geometry_param", "use_bn")


def camera_encoder(ctx: Context) -> nn.Module:
    """Lift-Splat-Shoot."""
    return _flat_encoder(ctx, "lift_splat_shoot", CAMERA_ARGS)


def camera_backbone(ctx: Context) -> nn.Module:
    """The map network behind Lift-Splat-Shoot, ``bevout_feature`` wide."""
    args = {"inplanes": ctx.width, "bevout_feature": ctx.need("bevout_feature")}
    return REGISTRY.build("backbone", "BevEncode", args)


def pixor_encoder(ctx: Context) -> nn.Module:
    """PIXOR's encoder, whose input has the channels of ``geometry_param.input_shape``."""
    return _flat_encoder(ctx, "pixor", PIXOR_ARGS)


def pixor_head(ctx: Context) -> nn.Module:
    """Class and box of every cell."""
    return PixorHead(head_width(ctx), ctx.args.get("use_bn", True))


def center_boxes(ctx: Context) -> nn.Module:
    """The raw box numbers of every cell.

    Raises:
        ConfigError: several anchors; a cell of CenterPoint holds one box.
    """
    anchors, _ = anchor_counts(ctx)
    if anchors != 1:
        raise ConfigError(f"model.args.anchor_number: CenterPoint has one box per cell, so it is 1, not {anchors}.")
    return center_box_head(head_width(ctx), anchors)


def center_decoder(ctx: Context) -> nn.Module:
    """From raw numbers to boxes in metres; ``out_size_factor`` voxels make a cell."""
    return CenterDecoder(ctx.need("voxel_size"), ctx.lidar_range, ctx.need("out_size_factor"))


def exponential_center_decoder(ctx: Context) -> nn.Module:
    """The same where z is in metres and the three sizes are logarithms (``center_point_intermediate``)."""
    args = (ctx.need("voxel_size"), ctx.lidar_range, ctx.need("out_size_factor"))
    return CenterDecoder(*args, exponential=True)


def log_variances(ctx: Context) -> nn.Module:
    """``uncertainty_dim`` log variances of every anchor, channel a * dim + k."""
    anchors, _ = anchor_counts(ctx)
    return nn.Conv2d(head_width(ctx), ctx.need("uncertainty_dim") * anchors, 1)


def _flat_encoder(ctx: Context, name: str, keys: tuple[str, ...]) -> nn.Module:
    args = {key: ctx.args[key] for key in keys if key in ctx.args}
    return REGISTRY.build("encoder", name, args, where=ctx.where())
