"""The table of published models, continued: cameras that collaborate. Source: spec models.md 4.2, homogeneous.md 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models import parts_variants
from opencood.models.assemblies import HEADS, PILLAR_IGNORES
from opencood.models.assemblies_variants import ANCHOR_ARGS, CAMERA_ARGS
from opencood.models.assembly import Assembly, FuseStage, Part
from opencood.models.backbones.lss_levels import LssLevels
from opencood.models.builder import register_assembly
from opencood.models.context import Context
from opencood.models.freezing import Freeze
from opencood.models.fusing import FuseAndKeep, FuseLevels
from opencood.models.links.first_level import first_level
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY

PER_LEVEL = "_ms"


class OwnHead(nn.Module):
    """A head on what every agent's own levels decode to, under the published name of the head without a fusion."""

    def __init__(self, key: str, head: nn.Conv2d) -> None:
        super().__init__()
        self.key = key
        self.weight, self.bias = head.weight, head.bias

    def forward(self, scene: SceneFeatures) -> dict[str, Tensor]:
        """The output (N, channels, H, W)."""
        return {self.key: nn.functional.conv2d(scene.aux["_own"], self.weight, self.bias)}


def _own_head(make: Callable[[Context], nn.Module | None], key: str) -> Callable[[Context], nn.Module | None]:
    def made(ctx: Context) -> nn.Module | None:
        head = make(ctx) if ctx.args.get("supervise_single") else None
        return OwnHead(f"{key}_single", head) if isinstance(head, nn.Conv2d) else None

    return made


def levels(ctx: Context) -> nn.Module:
    """The map network, fused inside."""
    assert ctx.width is not None, "an encoder says how wide its map is"
    return LssLevels(ctx.width, joins_first=not _method(ctx).endswith(PER_LEVEL))


def fusion(ctx: Context) -> nn.Module:
    """``fusion_args``: {core_method, args}; ``max_ms`` and ``att_ms`` fuse every level."""
    method = _method(ctx)
    args = (ctx.need("fusion_args").get("args") or {}).get(method) or {}
    if method.removesuffix(PER_LEVEL) == "att":
        nets = [REGISTRY.build("fusion", "att", {"feat_dim": width}) for width in ctx.level_widths]
    else:
        where = ctx.where("fusion_args", "core_method")
        nets = [REGISTRY.build("fusion", method.removesuffix(PER_LEVEL), args, where=where) for _ in ctx.level_widths]
    return nn.ModuleList(nets) if method.endswith(PER_LEVEL) else nets[0]


def _nets(slots: Mapping[str, Any]) -> list[nn.Module]:
    nets = slots["fuse"]
    return list(nets) if isinstance(nets, nn.ModuleList) else [nets]


def _method(ctx: Context) -> str:
    section = ctx.need("fusion_args")
    if "core_method" not in section:
        raise ConfigError(
            f"{ctx.where('fusion_args')}: missing key 'core_method' (att, max, v2xvit..., att_ms, max_ms)."
        )
    return str(section["core_method"])


def fuse_inside(slots: Mapping[str, Any]) -> FuseStage:
    """Fusion at what the map network calls its levels."""
    return FuseLevels(slots["levels"], _nets(slots), from_first=True)


def fuse_and_keep(slots: Mapping[str, Any]) -> FuseStage:
    """The same, for heads on every agent's own map too."""
    return FuseAndKeep(slots["levels"], _nets(slots))


def _trunk_fixed(args: Mapping[str, Any], names: Any) -> Freeze:
    """The image trunk is always frozen; its batch norms keep moving, as published."""
    return Freeze(("camencode",), still="nothing")


LIFT_SPLAT_SHOOT = Assembly(
    "lift_splat_shoot_intermediate",
    "Lift-Splat-Shoot with a fusion inside its map network.",
    (
        Part("encode", "", parts_variants.camera_encoder),
        Part("levels", "bevencode", levels),
        Part("fuse", "bevencode.fuse_module", fusion),
        *HEADS,
        *(Part("head", f"{head.name}_before_fusion", _own_head(head.make, head.key)) for head in HEADS),
    ),
    fuse_inside,
    collaborates=True,
    batch_key="image_inputs",
    args=CAMERA_ARGS | ANCHOR_ARGS | {"fusion_args", "supervise_single"},
    link=first_level,
    probes={"first": ("bevencode.first",)},
    ignores=PILLAR_IGNORES,
    freeze=_trunk_fixed,
)


def supervised_of(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """With heads of single agents their own maps are kept."""
    return replace(row, fuse=fuse_and_keep) if args.get("supervise_single") else row


register_assembly(LIFT_SPLAT_SHOOT, supervised_of)
