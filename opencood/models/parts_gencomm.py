"""Parts of GenComm and of the baselines beside it: how each is built from the YAML (spec gencomm.md 1).

Like :mod:`opencood.models.parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from opencood.errors import ConfigError
from opencood.models import parts
from opencood.models.context import Context
from opencood.models.links.adapters import Translator
from opencood.models.links.codefilling import WordDraws
from opencood.models.links.codefilling_mask import CommunicationMask
from opencood.models.links.degradation import Degradation
from opencood.models.links.diffusion import FeatureGenerator
from opencood.models.links.diffusion_unet import MESSAGE_CHANNELS, DenoisingUNet
from opencood.models.links.enhancer import ChannelEnhancer
from opencood.models.links.gencomm import Sampling
from opencood.models.links.message_extractor import MessageBranch, MessageExtractor
from opencood.models.links.mpda import CrossDomainTransformer, DomainClassifier, Resizer
from opencood.models.links.quantizer import Codebook
from opencood.registry import REGISTRY, Entry

# Keys of the generator's sections that published files carry and nothing reads (checkpoints depend on it).
UNREAD_OF_NETWORK = ("embed_dim",)
CODEFILLING_LEVELS, CODEFILLING_CHANNELS = 3, 128
UNREAD_OF_SCHEDULE = ("beta_schedule", "beta_start", "beta_end")
CLASSIFIER_WIDTH = 128
COMMON_DROP = 0.1
SHRUNK_WIDTH = 256  # of MPDA's spatial shrinker, whatever arrives


def checked(ctx: Context, target: Callable[..., Any], key: str, ignores: tuple[str, ...] = (), **context: Any) -> Any:
    """``target`` built from the section ``key``, whose entries are checked against its signature."""
    entry = Entry("link", key, target, frozenset(ignores))
    return target(**REGISTRY.check_arguments(entry, ctx.need(key), ctx.where(key), **context))


# --- GenComm ------------------------------------------------------------------------------------


def message_branch(ctx: Context) -> nn.Module:
    """``message_extractor``: {in_ch, out_ch}; by default as wide as what arrives. Older files give it a name only."""
    section = ctx.args.get("message_extractor")
    given = section if isinstance(section, Mapping) else {}
    width, channels = given.get("in_ch", ctx.width), given.get("out_ch", MESSAGE_CHANNELS)
    if width is None:
        raise ConfigError("model.args.message_extractor: missing key 'in_ch' (channels of the agents' maps).")
    ctx.check_width(width, "message_extractor")
    if channels != MESSAGE_CHANNELS:
        raise ConfigError(
            f"model.args.message_extractor.out_ch: {channels}, but the generator reads messages of {MESSAGE_CHANNELS} "
            "channels."
        )
    return MessageBranch(MessageExtractor(width, channels), parts.camera_fit(ctx))


def own_features(ctx: Context) -> nn.Module:
    """Publishes the maps as the agents have them, for the loss of the generated ones."""
    return nn.Identity()


def generator(ctx: Context) -> nn.Module:
    """``gencomm`` (``diffcomm`` in older files): {model, diffusion}."""
    key = "diffcomm" if "gencomm" not in ctx.args and "diffcomm" in ctx.args else "gencomm"
    section = ctx.need(key)
    for name in ("model", "diffusion"):
        if not isinstance(section, Mapping) or name not in section:
            raise ConfigError(f"model.args.{key}: missing key '{name}'.")
    where = f"model.args.{key}"
    network = Entry("link", "model", DenoisingUNet, frozenset(UNREAD_OF_NETWORK))
    unet = DenoisingUNet(**REGISTRY.check_arguments(network, section["model"], f"{where}.model"))

    def build(num_diffusion_timesteps: int) -> FeatureGenerator:
        return FeatureGenerator(unet, num_diffusion_timesteps)

    steps = Entry("link", "diffusion", build, frozenset(UNREAD_OF_SCHEDULE))
    return build(**REGISTRY.check_arguments(steps, section["diffusion"], f"{where}.diffusion"))


def sampling(ctx: Context) -> nn.Module:
    """``sampling``: {start, keep_ego_feature, noise, seed}; what it does not say follows parity."""
    own = {"start": ctx.quirk("generator_start"), "keep_ego_feature": ctx.quirk("generator_keeps_ego_feature")}
    own |= {"trick": bool(ctx.args.get("trick", False))}
    if "keep_ego_feature" in ctx.args:
        own["keep_ego_feature"] = bool(ctx.args["keep_ego_feature"])
    if "sampling" not in ctx.args:
        return Sampling(**own)
    return checked(ctx, Sampling, "sampling", **own)


def optional_enhancer(ctx: Context) -> nn.Module | None:
    """``enhancer``: {in_ch}, or a name in older files; nothing when absent or false."""
    return enhancer(ctx) if ctx.args.get("enhancer") else None


def enhancer(ctx: Context) -> nn.Module:
    """``enhancer``: {in_ch}; as wide as what arrives where the file gives a name or nothing at all."""
    section = ctx.args.get("enhancer")
    width = section.get("in_ch") if isinstance(section, Mapping) else ctx.args.get("in_head", ctx.width)
    if not isinstance(width, int):
        raise ConfigError(f"model.args.enhancer.in_ch: a number of channels is needed, not {width!r}.")
    ctx.check_width(width, "enhancer")
    return ChannelEnhancer(width)


# --- CodeFilling --------------------------------------------------------------------------------


def quantizer(ctx: Context) -> nn.Module:
    """``codebook``: {seg_num, dict_size, channel (128)}; it has three levels whatever its ``r``."""
    section = {"channel": CODEFILLING_CHANNELS, **ctx.need("codebook"), "r": CODEFILLING_LEVELS}
    entry = Entry("link", "codebook", Codebook)
    return Codebook(**REGISTRY.check_arguments(entry, section, ctx.where("codebook")))


def word_draws(ctx: Context) -> nn.Module:
    """Whether words are drawn in evaluation too follows parity."""
    return WordDraws(in_test=ctx.quirk("codebook_draws_in_test"))


def communication_mask(ctx: Context) -> nn.Module:
    """``communication``: {thre, gaussian_smooth, solver}."""
    return checked(ctx, CommunicationMask, "communication")


# --- MPDA ---------------------------------------------------------------------------------------


def resizer(ctx: Context) -> nn.Module:
    """``resizer``; not used with ``rebuttal: true``."""
    return checked(ctx, Resizer, "resizer", used=not ctx.args.get("rebuttal", False))


def transformer(ctx: Context) -> nn.Module:
    """``cdt``."""
    return checked(ctx, CrossDomainTransformer, "cdt")


def classifier(ctx: Context) -> nn.Module:
    """``classifier``: its channels, 128 by default."""
    return DomainClassifier(ctx.args.get("classifier", CLASSIFIER_WIDTH))


def spatial_shrinker(ctx: Context) -> nn.Module | None:
    """Half the resolution before sending, when ``spatial_shrinker`` asks for it."""
    if not ctx.args.get("spatial_shrinker"):
        return None
    return nn.Conv2d(SHRUNK_WIDTH, SHRUNK_WIDTH, 3, stride=2, padding=1)


def spatial_deshrinker(ctx: Context) -> nn.Module | None:
    """The resolution from before ``spatial_shrinker``, at the receiver."""
    if not ctx.args.get("spatial_shrinker"):
        return None
    return nn.ConvTranspose2d(SHRUNK_WIDTH, SHRUNK_WIDTH, 4, stride=2, padding=1)


# --- STAMP --------------------------------------------------------------------------------------


def translator(role: str, but: str = "") -> Callable[[Context], nn.Module | None]:
    """``adapter`` or ``reverter`` of a type: {core_method, args}; the type ``but`` has none."""

    def make(ctx: Context) -> nn.Module | None:
        if ctx.modality == but:
            return None
        section = ctx.need(role)
        if not isinstance(section, Mapping) or "core_method" not in section:
            raise ConfigError(f"{ctx.where(role)}: a mapping with core_method and args is needed, not {section!r}.")
        args, egos = section.get("args") or {}, ctx.args.get("ego_modality")
        return Translator(role, section["core_method"], args, ctx.where(role, "args"), of_ego=ctx.modality == egos)

    return make


def of_ego(make: Callable[[Context], nn.Module | None]) -> Callable[[Context], nn.Module | None]:
    """A part that only the ego's type has; it stands behind the shared fusion, which may change the width."""

    def make_for_ego(ctx: Context) -> nn.Module | None:
        return make(ctx.carrying(None)) if ctx.modality == ctx.args.get("ego_modality") else None

    return make_for_ego


# --- damaged messages ---------------------------------------------------------------------------


def degradation(drop: float, noise_std: float = 0.0) -> Callable[[Context], nn.Module | None]:
    """``degradation``: {drop, noise_std, seed}; ``missing_message: true`` means what a method was published with.

    Repaired, ``missing_message`` is the same for all methods.
    """

    def make(ctx: Context) -> nn.Module | None:
        if ctx.args.get("degradation"):
            return checked(ctx, Degradation, "degradation")
        if not ctx.args.get("missing_message"):
            return None
        return Degradation(drop, noise_std) if ctx.quirk("missing_message_by_method") else Degradation(COMMON_DROP)

    return make


# --- what trains --------------------------------------------------------------------------------


def is_ego(args: Mapping[str, Any], modality: str) -> bool:
    """Whether agents of a modality may be egos: ``ego_modality`` names them, joined by ``&`` (the first by default)."""
    return modality in str(args.get("ego_modality") or parts.modalities(args)[0])
