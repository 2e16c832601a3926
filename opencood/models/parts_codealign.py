"""Parts of the detectors with code spaces. Like :mod:`opencood.models.parts`. Source: spec codealign.md 2 to 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from opencood.errors import ConfigError
from opencood.models.backbones.aligner import AlignNet
from opencood.models.backbones.crop import GridFit
from opencood.models.context import Context
from opencood.models.links.code_link import SharedSpaceLink
from opencood.models.links.masked_link import ConfidenceMask, MaskedLink
from opencood.models.links.quantizer import Codebook
from opencood.models.links.translated_link import TranslatedLink
from opencood.models.links.translators import Adapter, Translator
from opencood.registry import REGISTRY, Entry

Make = Callable[[Context], nn.Module | None]
# Keys of ``codebook`` that the link reads.
OF_LINK = ("message",)


# --- encode --------------------------------------------------------------------------------------


def common_aligner(ctx: Context) -> nn.Module | None:
    """``model.args.aligner``: one structure for all modalities; none when absent."""
    section = ctx.args.get("aligner")
    if not section:
        return None
    entry = Entry("backbone", "AlignNet", AlignNet)
    return AlignNet(**REGISTRY.check_arguments(entry, section, "model.args.aligner"))


def aligner_listed_in(key: str) -> Make:
    """The common aligner of modalities that a mapping or list lists."""

    def make(ctx: Context) -> nn.Module | None:
        return common_aligner(ctx) if ctx.modality in (ctx.args.get(key) or ()) else None

    return make


def aligner_of_coded(ctx: Context) -> nn.Module | None:
    """With ``use_coded_feature`` the aligner of the modalities of ``aligner_modality``."""
    return aligner_listed_in("aligner_modality")(ctx) if ctx.args.get("use_coded_feature") else None


def grid_fit(ctx: Context) -> nn.Module | None:
    """Resizing to the scene's cells for LiDAR maps that do not have them; what a translator resizes is left to it."""
    size, factor = ctx.args.get("voxel_size"), ctx.args.get("out_size_factor")
    if ctx.own.get("sensor_type") == "camera" or not size or not factor:
        return None
    height, width = ctx.extent
    cells = (round(height / (size[1] * factor)), round(width / (size[0] * factor)))
    declared = ((ctx.args.get("translator") or {}).get("args") or {}).get("in_feature_shape")
    return GridFit(cells, tuple(declared) if declared else None)


# --- link ---------------------------------------------------------------------------------------


def codebook(ctx: Context) -> nn.Module | None:
    """``codebook``: {seg_num, dict_size, r}; no code space when absent."""
    return _codebook(ctx, ctx.args, "model.args", "codebook")


def source_codebook(ctx: Context) -> nn.Module | None:
    """``ego_codebook``, with ``use_coded_feature`` or ``use_codemap``.

    Raises:
        ConfigError: it is missing.
    """
    if not (ctx.args.get("use_coded_feature") or ctx.args.get("use_codemap")):
        return None
    made = _codebook(ctx, ctx.args, "model.args", "ego_codebook")
    if made is None:
        raise ConfigError("model.args: use_coded_feature and use_codemap need the section 'ego_codebook'.")
    return made


def own_codebook(ctx: Context) -> nn.Module | None:
    """A modality's own ``codebook``, with ``multi_channel_compressor``."""
    if not ctx.own.get("multi_channel_compressor"):
        return None
    return _codebook(ctx, ctx.own, ctx.where(), "codebook")


def optional_codebook(ctx: Context) -> nn.Module | None:
    """``codebook``, with ``multi_channel_compressor``."""
    return codebook(ctx) if ctx.args.get("multi_channel_compressor") else None


def _codebook(ctx: Context, args: Mapping[str, Any], where: str, key: str) -> nn.Module | None:
    section = args.get(key)
    if not section:
        return None
    entry = Entry("link", "codebook", Codebook, frozenset(OF_LINK))
    sampled = ctx.quirk("codebook_samples_in_eval")
    width = {} if ctx.width is None else {"channel": ctx.width}
    known = REGISTRY.check_arguments(entry, section, f"{where}.{key}", sample_in_eval=sampled, **width)
    return Codebook(**known)


def translator(ctx: Context) -> nn.Module:
    """``translator``: {core_method, args}, one for all targets."""
    return Translator(**_translator_section(ctx.args, "model.args", "translator"))


def translator_of_sender(ctx: Context) -> nn.Module | None:
    """The same structure for every modality that ``load_translator`` lists."""
    return translator(ctx) if ctx.modality in (ctx.args.get("load_translator") or ()) else None


def old_translator(ctx: Context) -> nn.Module:
    """``translator`` under the older prefix ``adapter``."""
    return Adapter(**_translator_section(ctx.args, "model.args", "translator"))


def own_adapter(ctx: Context) -> nn.Module | None:
    """A modality's own ``adapter`` to the code logits of the ego; the ego's modality has none."""
    return Adapter(**_translator_section(ctx.own, ctx.where(), "adapter")) if ctx.own.get("adapter") else None


def _translator_section(args: Mapping[str, Any], where: str, key: str) -> Mapping[str, Any]:
    section = args.get(key)
    if not isinstance(section, Mapping) or not {"core_method", "args"} <= set(section):
        raise ConfigError(f"{where}.{key}: a section with core_method and args is needed.")
    return {"core_method": section["core_method"], "args": section["args"]}


def _form(section: Any) -> str:
    return str((section or {}).get("message", "packed"))


def shared_link(ctx: Context) -> nn.Module:
    """The link of agents that share one code space."""
    return SharedSpaceLink(_form(ctx.args.get("codebook")), bool(ctx.args.get("pixel_sim")))


def reordered_link(ctx: Context) -> nn.Module:
    """The same, where words are made before a camera's map is padded."""
    return SharedSpaceLink(_form(ctx.args.get("codebook")), bool(ctx.args.get("pixel_sim")), loss_per_modality=True)


def ego_keeping_link(ctx: Context) -> nn.Module:
    """The same, where the ego reads its own map as it was."""
    return SharedSpaceLink(_form(ctx.args.get("codebook")), bool(ctx.args.get("pixel_sim")), keeps_ego=True)


def translated_link(ctx: Context) -> TranslatedLink:
    """The link that translates: ``use_d2d`` before ``use_coded_feature`` before ``use_codemap``."""
    kinds = {"use_d2d": "dense", "use_coded_feature": "coded_feature", "use_codemap": "codemap"}
    reads = next((word for key, word in kinds.items() if ctx.args.get(key)), "feature")
    return TranslatedLink(reads, form=_form(ctx.args.get("codebook")))


def dense_link(ctx: Context) -> nn.Module:
    """The link whose translator gives maps, whatever the switches say."""
    return TranslatedLink("dense", form=_form(ctx.args.get("codebook")))


def deployed_link(ctx: Context) -> nn.Module:
    """The link of deployment: backends share one code space, and the ego must have one."""
    made = translated_link(ctx)
    made.one_space, made.any_ego = True, False
    return made


def reordered_translated_link(ctx: Context) -> nn.Module:
    """The link that translates before a camera's map is padded, and draws its words in evaluation too."""
    sampled = ctx.quirk("codebook_samples_in_eval")
    return TranslatedLink(sample_in_eval=sampled, form=_form(ctx.args.get("codebook")))


def adapted_link(ctx: Context) -> nn.Module:
    """The link of the older deployment: adapters read what the sender's own code space makes of a map."""
    reads = "coded_feature" if ctx.args.get("class_feature_codebook", True) else "feature"
    return TranslatedLink(reads, any_ego=False)


def masked_link(ctx: Context) -> nn.Module:
    """The link whose messages have a mask of confident cells."""
    published = ctx.quirk("even_agents_bypass_mask")
    codes = bool(ctx.args.get("multi_channel_compressor"))
    return MaskedLink(_form(ctx.args.get("codebook")), published, published, codes)


def confidence_mask(ctx: Context) -> nn.Module:
    """``fusion_args.communication``: {thre, gaussian_smooth: {k_size, c_sigma}}.

    Raises:
        ConfigError: it is missing, or the own heads whose confidence it reads are (``supervise_single``).
    """
    if not ctx.args.get("supervise_single"):
        raise ConfigError("model.args.supervise_single: must be true, the mask reads the confidence of the own heads.")
    where = ctx.where("fusion_args", "communication")
    entry = Entry("link", "communication", ConfidenceMask)
    section = (ctx.need("fusion_args") or {}).get("communication")
    return ConfidenceMask(**REGISTRY.check_arguments(entry, section, where))


def levelled_codebook(ctx: Context) -> nn.Module | None:
    """``codebook`` with 1, 2 or 3 levels: any other ``r`` means 3."""
    section = ctx.args.get("codebook") or {}
    if section.get("r") not in (1, 2):
        section = {**section, "r": 3}
    return _codebook(ctx, {"codebook": section}, "model.args", "codebook")


# --- fuse ---------------------------------------------------------------------------------------


def chosen_fusion(ctx: Context) -> nn.Module:
    """``fusion``: {method: pyramidfusion, maxfusion or attfusion, backbone}.

    Raises:
        ConfigError: no such method.
    """
    section, where = ctx.need("fusion"), ctx.where("fusion", "backbone")
    method, backbone = section.get("method"), section.get("backbone")
    if method == "pyramidfusion":
        net = REGISTRY.build("fusion", "pyramid", {"resnext": False, **(backbone or {})}, where=where)
        ctx.check_width(net.in_channels, "fusion.backbone")
        return net
    if method == "maxfusion":
        return REGISTRY.build("fusion", "max", {})
    if method == "attfusion":
        return REGISTRY.build("fusion", "att", {"feat_dim": backbone}, where=where)
    raise ConfigError(f"{ctx.where('fusion', 'method')}: '{method}' is none of pyramidfusion, maxfusion, attfusion.")


def chosen_shrink(ctx: Context) -> nn.Module | None:
    """``fusion.shrink_head``, behind the pyramid only."""
    section = ctx.need("fusion")
    if section.get("method") != "pyramidfusion" or not section.get("shrink_head"):
        return None
    neck = REGISTRY.build("aligner", "downsample", section["shrink_head"], where=ctx.where("fusion", "shrink_head"))
    ctx.check_width(neck.in_channels, "fusion.shrink_head")
    return neck
