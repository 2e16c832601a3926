"""The table of published models, continued: STAMP's detectors with one backend per type (spec homogeneous.md 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from opencood.models import parts
from opencood.models.adapter_training import AdapterTraining, AdapterTrainingBuilder
from opencood.models.assemblies import SINGLE_ARGS, no_fusion
from opencood.models.assemblies_collab import BLOCK_ARGS, ELSEWHERE, ENCODED_PAIR, HOMO, fuse_like_pyramid
from opencood.models.assemblies_gencomm import for_adapters
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import AssemblyBuilder
from opencood.models.context import Context
from opencood.models.detector import Detector
from opencood.models.freezing import Freeze
from opencood.models.links.base import IdentityLink
from opencood.models.parts_collab import Make
from opencood.models.parts_gencomm import translator
from opencood.models.typewise import PROTOCOL, CollaborativeTypes, LateTypes, TypewiseBuilder
from opencood.registry import REGISTRY, register

INFER = "infer"
ONLY_FEATURES = "train_adapter"


def as_only_type(make: Make) -> Make:
    """A part that finds what lies below its type in ``model.args``, and no other type."""

    def made(ctx: Context) -> nn.Module | None:
        others = set(parts.modalities(ctx.args)) - {ctx.modality}
        rest = {key: value for key, value in ctx.args.items() if key not in others}
        return make(replace(ctx, args={**rest, **ctx.own}))

    return made


def calibrator(ctx: Context) -> nn.Module | None:
    """``calibrator``: {core_method}; none when absent."""
    section = ctx.own.get("calibrator")
    if not section:
        return None
    name = section["core_method"]
    return REGISTRY.build("calibrator", name, {}, ctx.where("calibrator"), on_logits=ctx.quirk("calibrates_logits"))


def nothing_else(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """Adapters and reverters train, in training stages; everything trains otherwise."""
    return Freeze() if args.get("stage", INFER) == INFER else for_adapters(args, names)


ENCODE = tuple(replace(part, make=as_only_type(part.make)) for part in ENCODED_PAIR)
TRANSLATE = tuple(Part("link", f"{role}_{{m}}", translator(role, but=PROTOCOL)) for role in ("adapter", "reverter"))
BACKEND = tuple(
    replace(part, make=as_only_type(part.make)) for part in HOMO.parts if part.slot in ("fuse", "shrink", "head")
)
ARGS = BLOCK_ARGS | SINGLE_ARGS | {"ego_modality", "ignored_modality", "crop_to_visible"}
# Files also say what their data are.
UNREAD = ELSEWHERE | {"protocol_modality", "heterogeneous", "stage"}

COLLABORATIVE = Assembly(
    "collab_w_adapter_inference",
    "Any types, each with its own fusion and heads, that read each other through a protocol format (STAMP).",
    (*ENCODE, *TRANSLATE, *BACKEND),
    fuse_like_pyramid,
    collaborates=False,
    batch_key="inputs_{m}",
    args=ARGS | {"protocol_output"},
    link=lambda links: IdentityLink(),
    ignores=UNREAD,
    detector=CollaborativeTypes,
)
LATE = Assembly(
    "heter_late_fusion",
    "Any types, each agent through the fusion and heads of its type alone; boxes are joined (STAMP).",
    (*ENCODE, *BACKEND),
    fuse_like_pyramid,
    collaborates=False,
    batch_key="inputs_{m}",
    args=ARGS,
    ignores=UNREAD,
    detector=LateTypes,
)
CALIBRATED = replace(
    LATE,
    summary="The same with scores that a calibrator per type brings to a common scale.",
    parts=(*LATE.parts, Part("refine", "calibrator_{m}", calibrator)),
)
TRAINING = Assembly(
    "collab_w_adapter",
    "One type's adapter and reverter, trained against the frozen features, and detections, of type and protocol.",
    (*ENCODE, *TRANSLATE),
    no_fusion,
    collaborates=False,
    batch_key="inputs_{m}",
    args=ARGS | {"stage"},
    link=lambda links: IdentityLink(),
    ignores=ELSEWHERE | {"protocol_modality", "heterogeneous"},
    freeze=for_adapters,
    detector=AdapterTraining,
)
TRAINING_WITH_OUTPUT = replace(TRAINING, parts=(*TRAINING.parts, *BACKEND), fuse=fuse_like_pyramid)


class CollabWithAdapterBuilder(AssemblyBuilder):
    """Builds ``collab_w_adapter``: what it is depends on its stage."""

    def __call__(self, hypes: Mapping[str, Any], train_flag: bool = True, **args: Any) -> Detector:
        """The detector of ``model.args.stage``."""
        stage = args.get("stage", ONLY_FEATURES)
        if stage == INFER:
            return TypewiseBuilder(replace(COLLABORATIVE, name=self.row.name))(hypes, train_flag, **args)
        row = TRAINING if stage == ONLY_FEATURES else TRAINING_WITH_OUTPUT
        return AdapterTrainingBuilder(row)(hypes, train_flag, **args)


register("model", COLLABORATIVE.name)(TypewiseBuilder(COLLABORATIVE))
register("model", LATE.name)(TypewiseBuilder(LATE))
for _name in ("heter_late_fusion_w_calibrator", "heter_late_fusion_w_calibrator_infer"):
    register("model", _name)(TypewiseBuilder(replace(CALIBRATED, name=_name)))
register("model", TRAINING.name)(CollabWithAdapterBuilder(TRAINING))
