"""What it takes to let a new modality take part, method by method: parameters that train, and bits that are sent.

Everything is counted on detectors of the shipped configurations, at their published size, on the meta device: elements
of parameters with a gradient after the method's own freezing, in the stages that are run when a modality joins, its own
pre-training aside. Source: spec codealign.md 12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from opencood.communication import Message
from opencood.communication.packing import bits_for, pack
from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_file, reparse
from opencood.config.tree import section
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments.build import build_from_scratch
from opencood.experiments.describe import sent_messages, without_content
from opencood.experiments.meta_batch import META, meta_batch
from opencood.experiments.model_trace import tensors_in
from opencood.models.detector import Detector
from opencood.models.links.adapters import Translator as Adapter
from opencood.models.links.quantizer import Codebook
from opencood.models.links.translators import Translator

STAGES = "opv2v/Heter_group/codebook"
ALONE, GROUP = (
    f"{STAGES}/codebook_pyramid_fixenc_aligner.yaml",
    f"{STAGES}/codebook_pyramid_fixenc_aligner_add_loss.yaml",
)
TRANSLATION = f"{STAGES}/codebook_pyramid_c2c.yaml"
DAIR = "dairv2x/Heter/codebook_pyramid_lidar.yaml"
BACKWARD_ALIGNMENT = "opv2v/MoreModality/HEAL/stage2/m3_single_pyramid.yaml"
CHANNELS, WORDS, BLOCKS = 64, 16, 3
CODEFILLING: dict[str, Any] = {"seg_num": 2, "dict_size": 16, "r": 3}
CELLS_WITH_POINTS = 900
MODALITIES = ("m7", "m2", "m6")
DIRECTIONS = (1, 2)


@dataclass(frozen=True)
class Elements:
    """Elements of parameters that train; the ``idle`` among them, which published counts include, get no gradient."""

    trained: int = 0
    idle: int = 0

    def __add__(self, other: Elements) -> Elements:
        return Elements(self.trained + other.trained, self.idle + other.idle)

    def __mul__(self, times: int) -> Elements:
        return Elements(self.trained * times, self.idle * times)

    @classmethod
    def of(cls, module: nn.Module, outputs: Any) -> Elements:
        """Those of a module that gave some outputs; takes the gradients of its parameters."""
        torch.stack([tensor.sum() for tensor in tensors_in(outputs) if tensor.requires_grad]).sum().backward()
        training = [parameter for parameter in module.parameters() if parameter.requires_grad]
        idle = sum(parameter.numel() for parameter in training if parameter.grad is None)
        return cls(sum(parameter.numel() for parameter in training), idle)


@dataclass(frozen=True)
class Line:
    """One way to let modalities join: what trains for all of them together, and how much that is of HEAL's."""

    what: str
    elements: Elements
    share: float


def trained_elements(hypes: Hypes, modalities: Sequence[str]) -> Elements:
    """What trains of a configuration's detector, in a scene with agents of some modalities."""
    with META:
        model = build_from_scratch(hypes)
    assert isinstance(model, Detector)  # every shipped stage is one
    model.train()
    with without_content(model):
        outputs = model(meta_batch(hypes, modalities, model.assembly.batch_key, CELLS_WITH_POINTS))
    return Elements.of(model, outputs)


# --- parameters ------------------------------------------------------------------------------------------------------


def parameter_lines(modalities: Sequence[str] = MODALITIES, translator: str = "convnext") -> list[Line]:
    """Every method and shape of groups for the modalities, which join one after the other.

    Raises:
        ConfigError: the library has no such modality, or there is no such translator.
    """
    count, none = len(modalities), Elements()
    heal = sum((trained_elements(aligned_backwards(m), [m]) for m in modalities), none)
    alone = sum((trained_elements(stage(ALONE, [m]), [m]) for m in modalities), none)
    joined = sum((trained_elements(stage(ALONE, [m], join_code_space=True), [m]) for m in modalities), none)
    fixed = stage(GROUP, modalities, fix_backend=True, backend_path="stage0")
    group, template = (trained_elements(hypes, modalities) for hypes in (fixed, stage(GROUP, modalities)))
    one = translator_elements(translator)
    found = {"HEAL, backward alignment": heal, "STAMP, adapter and reverter each": stamp_elements() * count}
    found["CodeFilling, one code space for the whole fleet"] = codefilling_elements()
    for ways in DIRECTIONS:
        found[f"CodeAlign, {count} groups of one, {ways} direction(s)"] = alone + one * (count * ways)
    for ways in DIRECTIONS:
        found[f"CodeAlign, one group of {count}, {ways} direction(s)"] = group + one * ways
    found["CodeAlign, all join an existing code space"] = joined
    found[f"CodeAlign, published template of a group of {count}, 1 direction"] = template + one
    return [Line(what, elements, elements.trained / heal.trained) for what, elements in found.items()]


def stage(name: str, modalities: Sequence[str], core_method: str | None = None, **args: Any) -> Hypes:
    """A shipped stage of CodeAlign for other modalities of its library; ``args`` replace entries of ``model.args``."""
    hypes = load_file(SHIPPED / name)
    kept = {key: value for key, value in hypes["model"]["args"].items() if not re.fullmatch(r"m\d+", key)}
    codebook = {"codebook": {"seg_num": 1, "dict_size": WORDS, "r": 1}} if kept.get("codebook") else {}
    content = {**hypes, "heter": {**hypes["heter"], "ego_modality": list(modalities), "modality_setting": {}}}
    content["model"] = {
        "core_method": core_method or hypes["model"]["core_method"],
        "args": {**kept, **codebook, "ego_modality": list(modalities), **args},
    }
    return reparse(hypes.replaced(content))


def aligned_backwards(modality: str) -> Hypes:
    """HEAL's second stage with a modality of CodeAlign's library and HEAL's aligner."""
    library, hypes = stage(ALONE, [modality]), load_file(SHIPPED / BACKWARD_ALIGNMENT)
    kept = {key: value for key, value in hypes["model"]["args"].items() if not re.fullmatch(r"m\d+", key)}
    own = section(library, f"model.args.{modality}")
    aligner = {"core_method": "convnext", "args": {"num_of_blocks": BLOCKS, "dim": CHANNELS}}
    network = {**own, "aligner_args": aligner, "model_path": ""}
    content = {**hypes, "heter": {**hypes["heter"], "modality_setting": library["heter"]["modality_setting"]}}
    content["model"] = {**hypes["model"], "args": {**kept, modality: network}}
    return hypes.replaced(content)


def translator_elements(kind: str) -> Elements:
    """A translator between code spaces of 64 channels and 16 words, for two targets where it tells them apart.

    Raises:
        ConfigError: there is no such translator.
    """
    targets = ["m1", "m2"]
    inner = {"modality_map": targets, "film_args": {"emb_dim": CHANNELS, "modality_map": targets}}
    args = _grid(WORDS) | {"submodule_args": {"num_of_blocks": BLOCKS, "dim": CHANNELS, **inner}}
    with META:
        module = Translator(kind, args)
        return Elements.of(module, [module(_map(), name) for name in targets])


def stamp_elements() -> Elements:
    """STAMP's adapter and reverter at 64 channels."""
    args = _grid(CHANNELS) | {"submodule_args": {"num_of_blocks": BLOCKS, "dim": CHANNELS}}
    with META:
        parts = [Adapter(role, "adapterconvnext", args) for role in ("adapter", "reverter")]
        return sum((Elements.of(part, part(_map())) for part in parts), Elements())


def codefilling_elements() -> Elements:
    """CodeFilling's code space at 64 channels."""
    with META:
        space = Codebook(channel=CHANNELS, **CODEFILLING)
        return Elements.of(space, space(torch.empty(4, CHANNELS)).feature)


def _grid(out_channels: int) -> dict[str, Any]:
    """Arguments of a translator, or of an adapter, that keeps range and resolution."""
    limits = [-102.4, -102.4, -3, 102.4, 102.4, 1]
    sides: dict[str, Any] = {f"{side}_cav_lidar_range": limits for side in ("in", "out")}
    sides |= {f"{side}_feature_shape": [256, 256] for side in ("in", "out")}
    return {"in_channels": CHANNELS, "out_channels": out_channels, **sides}


def _map() -> torch.Tensor:
    return torch.empty(1, CHANNELS, 8, 8)


# --- bits ------------------------------------------------------------------------------------------------------------

PLACES = {"LiDAR, OPV2V": (ALONE, "m1"), "camera, OPV2V": (ALONE, "m6"), "LiDAR, DAIR-V2X": (DAIR, "m1")}


def payload_lines() -> dict[str, list[int]]:
    """Bits that one sender transmits per frame, by method, at the places of :data:`PLACES`: headers and poses aside.

    Measured on the tensors of messages that detectors make of maps without content.
    """
    dense = [payload(stage(name, [m], codebook=None), m) for name, m in PLACES.values()]
    codes = [payload(stage(name, [m]), m) for name, m in PLACES.values()]
    own_cells = [payload(stage(name, [m], "heter_codebook_shared_head_reorder"), m) for name, m in PLACES.values()]
    other = [payload(_into_m2(name, m), m) for name, m in PLACES.values()]
    direct = [payload(_into_m2(name, m, use_d2d=True), m) for name, m in PLACES.values()]
    cells = [bits // (32 * CHANNELS) for bits in dense]
    return {
        "maps as float32 (HEAL, any fusion of features)": dense,
        "CodeFilling, every cell sent, with its mask": [codefilling_bits(n) for n in cells],
        "CodeAlign, receiver of the same group": codes,
        "CodeAlign, the camera's own cells only (..._reorder)": own_cells,
        "CodeAlign, for every other group": other,
        "CodeAlign, translated maps (use_d2d)": direct,
    }


def payload(hypes: Hypes, modality: str) -> int:
    """Bits of what an agent of a modality sends to an ego that asks for it, without headers."""
    message = sent_messages(hypes, [modality])[modality]
    return payload_bits(message)


def payload_bits(message: Message) -> int:
    """Bits of the tensors of a message; those with a slash in their names are about a map, not of it."""
    sent = (tensor for name, tensor in message.sent.items() if "/" not in name)
    return sum(8 * tensor.numel() * tensor.element_size() for tensor in sent)


def codefilling_bits(cells: int) -> int:
    """Bits of CodeFilling's message when all of its cells are worth sending."""
    codes = torch.zeros(1, cells * CODEFILLING["seg_num"] * CODEFILLING["r"], dtype=torch.long)
    mask = torch.ones(1, cells)
    return 8 * (pack(codes, bits_for(CODEFILLING["dict_size"])).numel() + pack(mask, 1).numel())


def _into_m2(name: str, modality: str, **args: Any) -> Hypes:
    """Stage 2 of a modality into the words of m2, on the data of a stage."""
    hypes = load_file(SHIPPED / TRANSLATION)
    out = CHANNELS if args.get("use_d2d") else WORDS
    translator = {
        "core_method": "convnext",
        "args": {**hypes["model"]["args"]["translator"]["args"], "out_channels": out},
    }
    spaces = {"backend_modality": ["m2"], "backend": {}, "aligner_model": {modality: ""}, "only_train_translator": True}
    return stage(name, [modality], "heter_codebook_shared_head_c2c", translator=translator, **spaces, **args)


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(parameters: Sequence[Line], payloads: Mapping[str, Sequence[int]], markdown: bool = False) -> list[str]:
    """Both tables as lines of text, or of Markdown."""
    table = markdown_table if markdown else text_table
    rows = [
        (line.what, f"{line.elements.trained:,}", f"{line.elements.idle:,}", f"{100 * line.share:.1f} %")
        for line in parameters
    ]
    dense = next(iter(payloads.values()))
    sizes = [(what, *map(_size, own, dense)) for what, own in payloads.items()]
    return [
        "Parameters that train when the modalities join:",
        *table(("method", "elements", "without gradient", "of HEAL's"), rows).splitlines(),
        "",
        "Bits that one sender transmits per frame (log2 of bytes; share of maps as float32):",
        *table(("message", *PLACES), sizes).splitlines(),
    ]


def _size(bits: int, whole: int) -> str:
    return f"{bits:,} ({math.log2(bits / 8):.1f}; 1/{whole / bits:.4g})"
