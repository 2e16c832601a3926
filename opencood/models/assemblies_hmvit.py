"""The table of published models, continued: HM-ViT. Source: spec hmvit.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opencood.errors import ConfigError
from opencood.models import parts
from opencood.models.assemblies import ELSEWHERE
from opencood.models.assembly import Assembly, FuseStage, Part
from opencood.models.builder import register_assembly
from opencood.models.context import Context
from opencood.models.fusing import FuseTyped
from opencood.registry import REGISTRY

# Types as the published code gives them, by the modality's name, and by what senses.
TYPE_BY_NAME = {"m1": 1, "m2": 1, "m3": 1}
TYPE_BY_SENSOR = {"camera": 0, "lidar": 1}
BY_SENSOR = "sensor"


def types_of(args: Mapping[str, Any]) -> dict[str, int]:
    """The type of every modality: as published, or as ``hmvit.type_of`` says (a mapping, or ``sensor``).

    Raises:
        ConfigError: a modality has no type.
    """
    names = parts.modalities(args)
    wanted = (args.get("hmvit") or {}).get("type_of")
    if wanted is None:
        return {m: TYPE_BY_NAME.get(m, 0) for m in names}
    known = {m: TYPE_BY_SENSOR.get(args[m].get("sensor_type")) for m in names} if wanted == BY_SENSOR else wanted
    types = {m: kind for m in names if isinstance(kind := known.get(m), int)}
    if lost := set(names) - set(types):
        raise ConfigError(f"model.args.hmvit.type_of: no type for {', '.join(sorted(lost))}; it says {wanted!r}.")
    return types


def hmvit(ctx: Context) -> nn.Module:
    """``hmvit``."""
    section = {key: value for key, value in ctx.need("hmvit").items() if key != "type_of"}
    net = REGISTRY.build("fusion", "hmvit", section, where=ctx.where("hmvit"))
    ctx.check_width(section["hetero_fusion_block"]["input_dim"], "hmvit.hetero_fusion_block.input_dim")
    net.types = types_of(ctx.args)
    return net


def hetero_decoder(ctx: Context) -> nn.Module:
    """``hetero_decoder``."""
    head = REGISTRY.build("head", "hetero_decoder", ctx.need("hetero_decoder"), where=ctx.where("hetero_decoder"))
    ctx.check_width(head.in_channels, "hetero_decoder.input_dim")
    return head


def fuse_typed(slots: Mapping[str, Any]) -> FuseStage:
    """One fusion of one map among agents of several types."""
    return FuseTyped(slots["fuse"], slots["fuse"].types)


register_assembly(
    Assembly(
        "hmvit",
        "Any encoders; agents of several types attend to each other in each one's own view (HM-ViT).",
        (
            Part("encode", "encoder_{m}", parts.encoder),
            Part("encode", "backbone_{m}", parts.residual_backbone),
            Part("encode", "shrink_conv_{m}", parts.shrink),
            Part("encode", "crop_{m}", parts.camera_fit),
            Part("fuse", "fusion_net", hmvit),
            Part("head", "decoder", hetero_decoder),
        ),
        fuse_typed,
        collaborates=True,
        batch_key="inputs_{m}",
        args=frozenset({"lidar_range", "hmvit", "hetero_decoder", "anchor_number", "dir_args"}),
        ignores=ELSEWHERE,
    )
)
