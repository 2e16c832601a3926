"""The table of published models, continued: code spaces and translators. Source: spec codealign.md 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opencood.models import parts, stages_codealign
from opencood.models import parts_codealign as own
from opencood.models.assemblies import ALIGNED, HEADS, HETER_ARGS, SINGLE_ARGS
from opencood.models.assembly import Assembly, FuseStage, Part
from opencood.models.builder import register_assembly
from opencood.models.freezing import Freeze, all_but
from opencood.models.fusing import FuseOnce, FusePyramid
from opencood.models.fusion.pyramid import PyramidFusion
from opencood.models.links.base import Link
from opencood.models.links.translated_link import Spaces


def fuse_as_chosen(slots: Mapping[str, Any]) -> FuseStage:
    """Pyramid fusion by occupancy, or one fusion of one map."""
    net = slots["fuse"]
    return FusePyramid(net) if isinstance(net, PyramidFusion) else FuseOnce(net)


def by_name(links: Mapping[str, Any], template: str) -> dict[str, Any]:
    """Modules whose published name fits a template with one ``*``, by what stands there."""
    before, _, after = template.partition("*")
    return {
        name[len(before) : len(name) - len(after)]: module
        for name, module in links.items()
        if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
    }


def one_space(links: Mapping[str, Any]) -> Link:
    """A link with one code space, or none."""
    link = links[""]
    link.join(by_name(links, "crop_*"))
    link.join_space(links.get("codebook") or links.get("multi_channel_compressor"))
    return link


def target_spaces(links: Mapping[str, Any]) -> Link:
    """A link with the code spaces of the backends, and one translator for all senders."""
    return _translated(links, {"": links["translator"]})


def spaces_of_senders(links: Mapping[str, Any]) -> Link:
    """The same with a translator for each sender; the common one only lies in checkpoints."""
    return _translated(links, by_name(links, "translator_*"))


def _translated(links: Mapping[str, Any], translators: Mapping[str, Any]) -> Link:
    sources = {"": links["ego_codebook"]} if "ego_codebook" in links else {}
    targets, crops = by_name(links, "backend_models.*.codebook"), by_name(links, "crop_*")
    links[""].join_spaces(Spaces(targets, translators, sources, crops))
    return links[""]


def backend_names(args: Mapping[str, Any]) -> Sequence[str]:
    """``backend_modality``, a list or one name, without those whose ``backend`` is an empty path."""
    names = args.get("backend_modality") or ()
    paths = args.get("backend") or {}
    return [name for name in ([names] if isinstance(names, str) else names) if paths.get(name) != ""]


def for_code_space(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """``fix_encoder``: encoders and backbones; ``fix_backend``: fusion, neck and heads; ``join_code_space``: all but
    the aligners.
    """
    if args.get("join_code_space"):
        return Freeze(tuple(name for name in names if not name.startswith("aligner_")), still="all")
    of_encoder = ("encoder_", "backbone_") if args.get("fix_encoder") else ()
    of_backend = ("fusion_backbone", "shrink_conv", "cls_head", "reg_head", "dir_head")
    kept = tuple(n for n in names if n.startswith(of_encoder) or (args.get("fix_backend") and n in of_backend))
    return Freeze(kept, still="all")


def for_translator(
    args: Mapping[str, Any], names: Sequence[str], table: str = "translator.translator.emb_table"
) -> Freeze:
    """``only_train_translator``: all but the translator; ``only_train_embedding``: all but its table of targets."""
    if args.get("only_train_embedding"):
        return Freeze(all_but("translator", names).parts, still="all", alone=(table,))
    if args.get("only_train_translator"):
        return all_but("translator", names)
    return Freeze()


def for_old_translator(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """The same, of a translator under the prefix ``adapter``."""
    return for_translator(args, names, "translator.adapter.emb_table")


FIT = Part("encode", "fit_{m}", own.grid_fit)
ENCODED = ALIGNED[:2]
CROP = ALIGNED[3]
ONE_BACKEND = (
    Part("link", "codebook", own.codebook),
    Part("fuse", "fusion_backbone", own.chosen_fusion),
    Part("shrink", "shrink_conv", own.chosen_shrink),
    *HEADS,
)
BACKEND = (
    Part("link", "backend_models.{b}.codebook", own.codebook),
    Part("fuse", "backend_models.{b}.fusion", own.chosen_fusion),
    *(Part("head", f"backend_models.{{b}}.{head.name}", head.make, head.key) for head in HEADS),
    Part("shrink", "backend_models.{b}.shrink_conv", own.chosen_shrink),
)
TRANSLATOR = (Part("link", "ego_codebook", own.source_codebook), Part("link", "translator", own.translator))

SHARED_ARGS = HETER_ARGS | {"aligner", "codebook", "fusion", "pixel_sim", "voxel_size", "out_size_factor"}
SHARED_ARGS |= {"fix_encoder", "fix_backend", "join_code_space", "load_codebook", "codebook_path", "backend_path"}
TRANSLATED_ARGS = HETER_ARGS | {"aligner", "codebook", "fusion", "voxel_size", "out_size_factor", "translator"}
TRANSLATED_ARGS |= {"backend_modality", "backend", "only_train_translator", "only_train_embedding", "translator_path"}
TRANSLATED_ARGS |= {"use_coded_feature", "use_codemap", "use_d2d", "ego_codebook", "codebook_model"}
# Read by data and training, not by a model.
ELSEWHERE = SINGLE_ARGS | {"ego_modality", "vis_path", "data_balance", "fix_encoder", "fix_backend"}

SHARED = Assembly(
    "heter_codebook_shared_head",
    "Aligned features as words of one code space, one fusion and head for all (CodeAlign, stages 0 and 1).",
    (
        *ENCODED,
        Part("encode", "aligner_{m}", own.common_aligner),
        CROP,
        FIT,
        Part("link", "", own.shared_link),
        *ONE_BACKEND,
    ),
    fuse_as_chosen,
    collaborates=True,
    batch_key="inputs_{m}",
    args=SHARED_ARGS,
    ignores=ELSEWHERE,
    link=one_space,
    freeze=for_code_space,
    load=stages_codealign.load_code_space,
)
TRANSLATED = Assembly(
    "heter_codebook_shared_head_c2c",
    "Features translated into words of the receiver's code space (CodeAlign, stage 2).",
    (
        *ENCODED,
        Part("encode", "aligner_{m}", own.aligner_listed_in("aligner_model")),
        CROP,
        FIT,
        Part("link", "", own.translated_link),
        *TRANSLATOR,
        *BACKEND,
    ),
    fuse_as_chosen,
    collaborates=True,
    batch_key="inputs_{m}",
    args=TRANSLATED_ARGS | {"aligner_model"},
    ignores=ELSEWHERE,
    link=target_spaces,
    freeze=for_translator,
    load=stages_codealign.load_translation,
    backends=backend_names,
    mixed_sizes=True,
)
DEPLOYED = replace(
    TRANSLATED,
    name="heter_codebook_shared_head_c2c_infer",
    summary="Deployment: every sender with its own translator, backends of one code space (CodeAlign).",
    parts=(
        *ENCODED,
        Part("encode", "aligner_{m}", own.aligner_listed_in("load_aligner")),
        CROP,
        FIT,
        Part("link", "", own.deployed_link),
        *TRANSLATOR,
        Part("link", "translator_{m}", own.translator_of_sender),
        *BACKEND,
    ),
    args=TRANSLATED_ARGS | {"load_aligner", "load_translator", "ego_group_model", "ignored_modality"},
    link=spaces_of_senders,
    load=stages_codealign.load_deployment,
    drops=lambda args: args.get("ignored_modality") or (),
)
DENSE = replace(
    TRANSLATED,
    name="heter_codebook_shared_head_d2d",
    summary="Features translated into the receiver's features, without words (CodeAlign, ablation).",
    parts=(
        *ENCODED,
        Part("encode", "aligner_{m}", own.aligner_of_coded),
        CROP,
        FIT,
        Part("link", "", own.dense_link),
        *TRANSLATOR,
        *BACKEND,
    ),
    args=TRANSLATED_ARGS | {"aligner_modality", "ego_group_model"},
    load=stages_codealign.load_dense,
)
UNPADDED = (
    *ENCODED,
    Part("encode", "aligner_{m}", own.common_aligner),
    FIT,
    Part("link", "crop_{m}", parts.camera_fit),
)
REORDERED = replace(
    SHARED,
    name="heter_codebook_shared_head_reorder",
    summary="The shared code space, with words made before a camera's map is padded (CodeAlign, ablation).",
    parts=(*UNPADDED, Part("link", "", own.reordered_link), *ONE_BACKEND),
    mixed_sizes=True,
)
REORDERED_TRANSLATED = replace(
    TRANSLATED,
    name="heter_codebook_shared_head_reorder_c2c",
    summary="Translation before a camera's map is padded (CodeAlign, ablation).",
    parts=(
        *UNPADDED,
        Part("link", "", own.reordered_translated_link),
        Part("link", "translator", own.translator),
        *BACKEND,
    ),
    args=TRANSLATED_ARGS | {"aligner_model"},
    load=stages_codealign.load_reordered_translation,
)
REORDERED_ADAPTED = replace(
    REORDERED_TRANSLATED,
    name="heter_codebook_shared_head_reorder_c2c_film",
    summary="Translation before a camera's map is padded, by an older adapter (CodeAlign, ablation).",
    parts=(
        *UNPADDED,
        Part("link", "", own.reordered_translated_link),
        Part("link", "translator", own.old_translator),
        *BACKEND,
    ),
    args=TRANSLATED_ARGS | {"aligner_model", "emb_path"},
    freeze=for_old_translator,
)

for _row in (SHARED, TRANSLATED, DEPLOYED, DENSE, REORDERED, REORDERED_TRANSLATED, REORDERED_ADAPTED):
    register_assembly(_row)
