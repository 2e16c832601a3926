"""The table of published models, continued: GenComm and the heterogeneous baselines beside it (spec gencomm.md 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opencood.errors import ConfigError
from opencood.models import parts
from opencood.models import parts_gencomm as own
from opencood.models.adapter_training import PROTOCOL, AdapterTraining, AdapterTrainingBuilder
from opencood.models.assemblies import (
    COMPRESSOR,
    ELSEWHERE,
    FUSION,
    FUSION_ARGS,
    HEADS,
    HETER_ARGS,
    OWN_HEADS,
    SHRINK,
    SINGLE_ARGS,
    fuse_once,
    no_fusion,
)
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly
from opencood.models.freezing import Freeze, for_compressor
from opencood.models.links.base import IdentityLink, Link
from opencood.models.links.codefilling import CodeFillingLink, CodeFillingParts
from opencood.models.links.degradation import FeatureLink
from opencood.models.links.gencomm import GenCommLink, GenCommParts
from opencood.models.links.mpda import MpdaLink, MpdaParts
from opencood.models.links.stamp import StampLink
from opencood.registry import register

ENCODE = (
    Part("encode", "encoder_{m}", parts.encoder),
    Part("encode", "backbone_{m}", parts.base_backbone),
    Part("encode", "shrinker_{m}", parts.shrink),
)
FIT = Part("encode", "crop_{m}", parts.camera_fit)
ARGS = HETER_ARGS | FUSION_ARGS | SINGLE_ARGS | {"compressor", "ego_modality", "missing_message", "degradation"}
# Files of one method carry the sections of the others.
OTHERS = frozenset({"gencomm", "message_extractor", "enhancer", "resizer", "cdt", "classifier", "rebuttal", "codebook"})
IGNORES = ELSEWHERE | OTHERS | {"communication", "gmatch", "aligner_args"}
ALL_OF_A_TYPE = ("encoder", "backbone", "shrinker", "message_extractor")


def frozen_but(names: Sequence[str], trained: Sequence[str]) -> Freeze:
    """Everything frozen and in eval mode but what is trained; parts that only know the mode take part in it."""
    modes = ("sampling", "degradation", "word_draws")
    return Freeze(tuple(name for name in names if name not in (*trained, *modes)), still="all")


def of_types(args: Mapping[str, Any], names: Sequence[str], stems: Sequence[str], ego: bool) -> list[str]:
    """The parts ``<stem>_<type>`` of the ego's types, or of the other ones."""
    found = [m for m in parts.modalities(args) if own.is_ego(args, m) == ego]
    return [name for name in (f"{stem}_{m}" for stem in stems for m in found) if name in names]


def for_message_extractors(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """Stage 2: only the message extractors of the types that join train."""
    return frozen_but(names, of_types(args, names, ("message_extractor",), ego=False))


def for_encoders_that_join(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """BackAlign: encoder, backbone and neck of the types that join train; the ego's and the collaboration stay."""
    shared = ["fusion_net", "shrink_conv", "cls_head", "reg_head", "dir_head"]
    frozen = of_types(args, names, ALL_OF_A_TYPE, ego=True) + shared
    return Freeze(tuple(name for name in names if name in frozen), still="all")


def for_codebook(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """CodeFilling: only the codebook trains (and, in name, the mask's filter)."""
    return frozen_but(names, ("coodbook", "communication"))


def for_adaptation(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """MPDA: what agents see is frozen; adaptation, fusion and heads train."""
    frozen = ("encoder_", "backbone_", "shrinker_")
    return Freeze(tuple(name for name in names if name.startswith(frozen)), still="all")


def for_adapters(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """STAMP: only adapters and reverters train."""
    return frozen_but(names, [name for name in names if name.startswith(("adapter_", "reverter_"))])


def codefilling_link(links: Mapping[str, Any]) -> Link:
    """Codes out, restored maps in."""
    return CodeFillingLink(
        CodeFillingParts(links["coodbook"], links["communication"], links["word_draws"], links.get("degradation"))
    )


def mpda_link(links: Mapping[str, Any]) -> Link:
    """Maps out, maps in the ego's style in."""
    stem = "spatial_deshrinker_"
    widen = {name.removeprefix(stem): layer for name, layer in links.items() if name.startswith(stem)}
    parts_of_link = (links["resizer"], links["cdt"], links["classifier"], widen, links.get("degradation"))
    return MpdaLink(MpdaParts(*parts_of_link))


def stamp_link(links: Mapping[str, Any]) -> Link:
    """Protocol features out, the ego's format in."""
    adapters = {name.removeprefix("adapter_"): part for name, part in links.items() if name.startswith("adapter_")}
    reverters = {name.removeprefix("reverter_"): part for name, part in links.items() if name.startswith("reverter_")}
    of_ego = [m for m, reverter in reverters.items() if reverter.of_ego]
    if len(of_ego) != 1:
        raise ConfigError(f"model.args.ego_modality: one of the types is needed, {', '.join(reverters)}.")
    (ego_type,) = of_ego
    return StampLink(ego_type, adapters, reverters[ego_type], links.get("degradation"))


def gencomm_link(links: Mapping[str, Any]) -> Link:
    """Messages out, features in."""
    rest = {name: links.get(name) for name in ("enhancer", "compressor", "degradation")}
    return GenCommLink(GenCommParts(links["gencomm"], links["sampling"], **rest))


def feature_link(links: Mapping[str, Any]) -> Link:
    """Maps as they are, or compressed, perhaps damaged."""
    return FeatureLink(links.get("compressor"), links.get("degradation"))


GENCOMM = Assembly(
    "heter_model_baseline_w_gencomm_stage1",
    "Any encoders; two-channel messages from which the ego generates features (GenComm, all of it trains).",
    (
        Part("link", "gencomm", own.generator),
        *ENCODE,
        Part("encode", "message_extractor_{m}", own.message_branch),
        COMPRESSOR,
        *OWN_HEADS,
        FUSION,
        SHRINK,
        *HEADS,
        Part("link", "enhancer", own.optional_enhancer),
        Part("own_head", "own_features", own.own_features, "gt_feature"),
        Part("link", "sampling", own.sampling),
        Part("link", "degradation", own.degradation(drop=0.4)),
    ),
    fuse_once,
    collaborates=True,
    batch_key="inputs_{m}",
    args=ARGS | {"gencomm", "diffcomm", "message_extractor", "enhancer", "trick", "keep_ego_feature", "sampling"},
    link=gencomm_link,
    ignores=IGNORES,
    freeze=for_compressor,
)


def _stage2_parts() -> tuple[Part, ...]:
    """Those of stage 1 with an enhancer that must be there, in front of the heads, and another published damage."""
    kept = [part for part in GENCOMM.parts if part.name not in ("enhancer", "degradation")]
    heads = next(i for i, part in enumerate(kept) if part.slot == "head")
    kept.insert(heads, Part("link", "enhancer", own.enhancer))
    return (*kept, Part("link", "degradation", own.degradation(drop=0.1)))


ASSEMBLIES = (
    GENCOMM,
    replace(GENCOMM, name="heter_model_baseline_w_gencomm"),
    replace(GENCOMM, name="heter_model_baseline_w_diffcomm"),
    replace(
        GENCOMM,
        name="heter_model_baseline_w_gencomm_stage2",
        summary="GenComm when a type joins: only the message extractors of the types that are not the ego's train.",
        parts=_stage2_parts(),
        freeze=for_message_extractors,
    ),
    Assembly(
        "heter_model_baseline_w_backalign",
        "Any encoders; those of the types that join are trained against a frozen collaboration (HEAL's alignment).",
        (
            *ENCODE,
            FIT,
            COMPRESSOR,
            *OWN_HEADS,
            FUSION,
            SHRINK,
            *HEADS,
            Part("link", "degradation", own.degradation(drop=0.05, noise_std=3.0)),
        ),
        fuse_once,
        collaborates=True,
        batch_key="inputs_{m}",
        args=ARGS,
        link=feature_link,
        ignores=IGNORES,
        freeze=for_encoders_that_join,
    ),
    Assembly(
        "heter_model_baseline_w_codebook",
        "Any encoders; the numbers of a few words per cell, of the cells worth sending (CodeFilling).",
        (
            Part("link", "coodbook", own.quantizer),  # published with this spelling
            Part("link", "communication", own.communication_mask),
            *ENCODE,
            FIT,
            *OWN_HEADS,
            FUSION,
            SHRINK,
            *HEADS,
            Part("link", "word_draws", own.word_draws),
            Part("link", "degradation", own.degradation(drop=0.05, noise_std=3.0)),
        ),
        fuse_once,
        collaborates=True,
        batch_key="inputs_{m}",
        args=ARGS | {"codebook", "communication"},
        link=codefilling_link,
        probes={"confidence": ("cls_head",)},
        ignores=IGNORES,
        freeze=for_codebook,
    ),
    Assembly(
        "heter_model_baseline_w_mpda",
        "Any encoders; collaborators' maps are brought to the ego's size and style (MPDA).",
        (
            Part("link", "resizer", own.resizer),
            Part("link", "cdt", own.transformer),
            Part("link", "classifier", own.classifier),
            *ENCODE,
            Part("encode", "spatial_shrinker_{m}", own.spatial_shrinker),
            Part("link", "spatial_deshrinker_{m}", own.spatial_deshrinker),
            FIT,
            *OWN_HEADS,
            FUSION,
            SHRINK,
            *HEADS,
            Part("link", "degradation", own.degradation(drop=0.05, noise_std=3.0)),
        ),
        fuse_once,
        collaborates=True,
        batch_key="inputs_{m}",
        args=ARGS | {"resizer", "cdt", "classifier", "rebuttal", "spatial_shrinker"},
        link=mpda_link,
        ignores=IGNORES,
        freeze=for_adaptation,
    ),
    Assembly(
        "heter_model_baseline_w_stamp_infer",
        "Any encoders; features travel in a protocol format that every type writes and reads (STAMP).",
        (
            *ENCODE,
            Part("link", "adapter_{m}", own.translator("adapter")),
            Part("link", "reverter_{m}", own.translator("reverter")),
            FIT,
            FUSION,
            SHRINK,
            *(Part("head", f"{head.name}_{{m}}", own.of_ego(head.make), head.key) for head in HEADS),
            Part("link", "degradation", own.degradation(drop=0.2)),
        ),
        fuse_once,
        collaborates=True,
        batch_key="inputs_{m}",
        args=ARGS,
        link=stamp_link,
        ignores=IGNORES | {"stage", "protocol_modality"},
    ),
)

STAMP_TRAINING = Assembly(
    "heter_model_baseline_w_stamp",
    "One type's adapter and reverter, trained against the frozen features of type and protocol (STAMP).",
    (
        *ENCODE,
        Part("encode", "aligner_{m}", parts.aligner),
        Part("link", "adapter_{m}", own.translator("adapter", but=PROTOCOL)),
        Part("link", "reverter_{m}", own.translator("reverter", but=PROTOCOL)),
        FIT,
    ),
    no_fusion,
    collaborates=False,
    batch_key="inputs_{m}",
    args=HETER_ARGS | {"stage", "crop_to_visible", "ego_modality", "ignored_modality"},
    link=lambda links: IdentityLink(),
    ignores=IGNORES | FUSION_ARGS | {"protocol_modality"},
    freeze=for_adapters,
    detector=AdapterTraining,
)

for _row in ASSEMBLIES:
    register_assembly(_row)
register("model", STAMP_TRAINING.name)(AdapterTrainingBuilder(STAMP_TRAINING))
