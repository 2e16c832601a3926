"""The table of published models, continued: CodeAlign's earlier generations and one-modality models.

Source: spec codealign.md 4.4, 4.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opencood.models import parts, parts_collab
from opencood.models import parts_codealign as own
from opencood.models.assemblies import ALIGNED, FUSION_ARGS, HEADS, HETER_ARGS, OWN_HEADS, SHRINK, SINGLE_ARGS
from opencood.models.assemblies_codealign import by_name, one_space
from opencood.models.assembly import Assembly, FuseStage, Part
from opencood.models.builder import register_assembly
from opencood.models.freezing import Freeze, all_but
from opencood.models.fusing import FuseLikePyramid, FuseMaskedLevels, FusePyramid
from opencood.models.fusion.pyramid import PyramidFusion
from opencood.models.links.base import Link
from opencood.models.links.masked_link import MaskedLink
from opencood.models.links.translated_link import Spaces
from opencood.models.parts import modalities
from opencood.models.parts_collab import in_block


def fuse_like_pyramid(slots: Mapping[str, Any]) -> FuseStage:
    """Pyramid fusion, or one fusion with the same outputs."""
    net = slots["fuse"]
    return FusePyramid(net) if isinstance(net, PyramidFusion) else FuseLikePyramid(net)


def fuse_masked_levels(slots: Mapping[str, Any]) -> FuseStage:
    """Fusion at every level of a backbone, of the cells that the senders' masks leave."""
    return FuseMaskedLevels(slots["levels"], slots["fuse"])


def own_spaces(links: Mapping[str, Any]) -> Link:
    """A link with a code space and, but for the ego's, an adapter of every modality."""
    spaces = by_name(links, "multi_channel_compressor_*")
    link = links[""]
    link.join_spaces(Spaces(spaces, by_name(links, "code2code_*"), spaces))
    return link


def masked_space(links: Mapping[str, Any]) -> Link:
    """A link with a mask, and with a code space if it is switched on."""
    link = one_space(links if links[""].codes else {**links, "multi_channel_compressor": None})
    assert isinstance(link, MaskedLink)
    link.join_masker(links["naive_communication"])
    return link


def hoisted(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of the first modality as keys of ``model.args``; there are no other modalities."""
    names = modalities(args)
    if not names:
        return args
    rest = {key: value for key, value in args.items() if key not in names}
    return {**args[names[0]], **rest, names[0]: args[names[0]]}


def known_modalities(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """``model.args`` without the modalities that are ignored, the others sorted by name."""
    names = sorted(set(modalities(args)) - set(args.get("ignored_modality") or ()), key=lambda name: int(name[1:]))
    rest = {key: value for key, value in args.items() if key not in modalities(args)}
    return {**rest, **{name: args[name] for name in names}}


def everything(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """Nothing trains."""
    return Freeze(tuple(names), still="all")


def for_masked_codes(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """``stage2_added_modality``: all but its aligner; ``freeze_for_codebook``: all but the code space, whose batch
    norms keep moving; ``freeze_codebook``: the code space.
    """
    if args.get("stage2_added_modality"):
        return all_but(f"aligner_{args['stage2_added_modality']}", names)
    if args.get("freeze_for_codebook"):
        return Freeze(tuple(name for name in names if name != CODES), still="nothing")
    return Freeze((CODES,), still="nothing") if args.get("freeze_codebook") else Freeze()


def for_stage2(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """``stage2``: encoders and backbones are frozen."""
    kept = tuple(name for name in names if name.startswith(("encoder_", "backbone_")))
    return Freeze(kept) if args.get("stage2") else Freeze()


CODES = "multi_channel_compressor"
ONE_PYRAMID = Part("fuse", "pyramid_backbone", parts.pyramid)
CODE_ARGS = frozenset({CODES, "codebook"})
BLOCK_ARGS = frozenset({"head_method"}) | HETER_ARGS | FUSION_ARGS | {"fusion_backbone"}
ELSEWHERE = SINGLE_ARGS | {"ego_modality", "voxel_size", "out_size_factor", "stage2_added_modality", "model_path"}
ENCODED_PAIR = (
    Part("encode", "encoder_{m}", parts_collab.encoder),
    Part("encode", "encoder_{m}_camera", parts_collab.camera_encoder),
    Part("encode", "crop_{m}_camera", parts_collab.camera_fit_of_pair),
    Part("encode", "encoder_{m}_lidar", parts_collab.lidar_encoder),
    Part("encode", "backbone_{m}", parts_collab.backbone),
    Part("encode", "aligner_{m}", parts_collab.aligner),
    Part("encode", "crop_{m}", parts.camera_fit),
)
HEAD_BY_METHOD = (
    Part("head", "cls_head_{m}", in_block(parts_collab.class_logits), "cls_preds"),
    Part("head", "reg_head_{m}", in_block(parts_collab.box_residuals), "reg_preds"),
    Part("head", "dir_head_{m}", in_block(parts_collab.direction_bins), "dir_preds"),
    Part("head", "head_{m}", in_block(parts_collab.segmentation)),
)

HOMO = Assembly(
    "homo_collab",
    "One modality, of one sensor or two, with any fusion; all of its YAML below the modality.",
    (
        *ENCODED_PAIR,
        Part("fuse", "pyramid_backbone_{m}", in_block(parts_collab.fusion)),
        Part("shrink", "shrink_conv_{m}", parts_collab.shrink),
        *HEAD_BY_METHOD,
    ),
    fuse_like_pyramid,
    collaborates=True,
    batch_key="inputs_{m}",
    args=BLOCK_ARGS,
    ignores=ELSEWHERE,
    arrange=hoisted,
)
PYRAMID_SHARED = Assembly(
    "heter_pyramid_shared_head",
    "Any encoders and aligners, pyramid fusion, heads of every agent alone beside it.",
    (*ALIGNED, *OWN_HEADS, ONE_PYRAMID, SHRINK, *HEADS),
    fuse_like_pyramid,
    collaborates=True,
    batch_key="inputs_{m}",
    args=HETER_ARGS | SINGLE_ARGS | {"fusion_backbone", "stage2"},
    ignores=ELSEWHERE,
    freeze=for_stage2,
    feature_key="fused_feature",
)

ASSEMBLIES = (
    HOMO,
    Assembly(
        "homo_collab_codebook",
        "One modality whose maps are words of a code space, with any fusion.",
        (
            *ENCODED_PAIR,
            Part("link", "", own.shared_link),
            Part("link", CODES, own.optional_codebook),
            Part("fuse", "pyramid_backbone", parts_collab.fusion),
            SHRINK,
            *HEADS,
        ),
        fuse_like_pyramid,
        collaborates=True,
        batch_key="inputs_{m}",
        args=BLOCK_ARGS | CODE_ARGS,
        ignores=ELSEWHERE,
        link=one_space,
    ),
    Assembly(
        "collab_w_c2c_infer",
        "The older deployment: every modality with its own code space, backend and adapter to the ego's words.",
        (
            *ALIGNED,
            Part("link", f"{CODES}_{{m}}", own.own_codebook),
            Part("fuse", "pyramid_backbone_{m}", parts.pyramid),
            Part("shrink", "shrink_conv_{m}", parts.shrink),
            Part("link", "code2code_{m}", own.own_adapter),
            *(Part("head", f"{head.name}_{{m}}", in_block(head.make), head.key) for head in HEADS),
            Part("link", "", own.adapted_link),
        ),
        fuse_like_pyramid,
        collaborates=True,
        batch_key="inputs_{m}",
        args=frozenset({"lidar_range", "ignored_modality", "class_feature_codebook"}),
        ignores=frozenset({"save_codes_dataset", "only_return_detection", "only_return_class"}) | ELSEWHERE,
        link=own_spaces,
        freeze=everything,
        arrange=known_modalities,
        drops=lambda args: args.get("ignored_modality") or (),
    ),
    PYRAMID_SHARED,
    replace(
        PYRAMID_SHARED,
        name="heter_codebook_pyramid_shared_head",
        summary="The same with maps as words of a code space; the ego keeps its own map.",
        parts=(
            *ALIGNED,
            *OWN_HEADS,
            Part("link", "", own.ego_keeping_link),
            Part("link", CODES, own.optional_codebook),
            ONE_PYRAMID,
            SHRINK,
            *HEADS,
        ),
        args=PYRAMID_SHARED.args | CODE_ARGS,
        link=one_space,
    ),
    Assembly(
        "heter_model_shared_head",
        "Words of a code space and a mask of confident cells, fusion at every level of a backbone.",
        (
            Part("link", "naive_communication", own.confidence_mask),
            *ALIGNED,
            *OWN_HEADS,
            Part("levels", "backbone", parts.fusion_levels),
            Part("fuse", "fusion_net", parts.fusion_per_level),
            Part("link", CODES, own.levelled_codebook),
            Part("link", "", own.masked_link),
            SHRINK,
            *HEADS,
        ),
        fuse_masked_levels,
        collaborates=True,
        batch_key="inputs_{m}",
        args=HETER_ARGS
        | FUSION_ARGS
        | SINGLE_ARGS
        | CODE_ARGS
        | {"fusion_backbone", "freeze_for_codebook", "freeze_codebook", "stage2_added_modality", "att", "max"},
        ignores=ELSEWHERE,
        link=masked_space,
        probes={"confidence": ("cls_head_single",)},
        freeze=for_masked_codes,
    ),
)

for _row in ASSEMBLIES:
    register_assembly(_row)
