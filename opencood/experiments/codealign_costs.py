"""What it costs to add a modality, and what agents send, at published size: CodeAlign beside HEAL, STAMP, CodeFilling.

Nothing is loaded or computed: the networks are built on the meta device and their parameters counted. Counted is what
trains when a modality joins; the sensor network's own training before that (stage 0) is counted for nobody, shared
tensors once. Source: spec codealign.md 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from opencood.communication.packing import bits_for
from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.config.reader import read_document
from opencood.evaluation.files import write_text
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments.build import build_from_scratch
from opencood.experiments.meta_batch import META
from opencood.models.backbones.aligner import AlignNet
from opencood.models.links.quantizer import Codebook
from opencood.models.links.translators import Translator

WIDTH, WORDS = 64, 16
DEFINITIONS = SHIPPED.parent / "modality_assign" / "10modality_define.yaml"
HEAL_STAGE_2 = SHIPPED / "opv2v" / "MoreModality" / "HEAL" / "stage2"
# Published modalities of CodeAlign that can be built, and those of HEAL's second stage.
DEFINED = ("m1", "m2", "m3", "m4", "m5", "m6", "m7")
ADDED_BY_HEAL = ("m2", "m3", "m4")
# Lie in the networks and never get a gradient.
UNUSED = (".cml.", "._fc.", ".trunk._conv_head.", ".trunk._bn1.")
RANGE = [-102.4, -102.4, -3, 102.4, 102.4, 1]
LIDAR_CELLS, CAMERA_CELLS = 256 * 256, 128 * 128
FLOAT_BITS = 32


@dataclass(frozen=True)
class Count:
    """Elements of parameters, and how many of them ever get a gradient."""

    all: int
    used: int

    def __add__(self, other: Count) -> Count:
        return Count(self.all + other.all, self.used + other.used)

    def __mul__(self, times: int) -> Count:
        return Count(self.all * times, self.used * times)

    def __str__(self) -> str:
        return f"{self.all:,}" + (f" ({self.used:,} used)" if self.used != self.all else "")


def count(model: nn.Module, *prefixes: str, trains: bool = False) -> Count:
    """The parameters below some names (all without); with ``trains`` only those with a gradient."""
    found = [
        (name, value.numel())
        for name, value in model.named_parameters()
        if (not prefixes or name.startswith(prefixes)) and (value.requires_grad or not trains)
    ]
    unused = sum(size for name, size in found if any(part in f".{name}" for part in UNUSED))
    total = sum(size for _, size in found)
    return Count(total, total - unused)


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """A module without content."""
    with META:
        return make()


def aligner() -> Count:
    """CodeAlign's aligner: four residual blocks of 64 channels."""
    return count(on_meta(lambda: AlignNet("resnet3x3", {"dim": WIDTH, "num_of_blocks": 4})))


def codebook(levels: int = 1, groups: int = 1, words: int = WORDS, width: int = WIDTH) -> Count:
    """A code space."""
    return count(on_meta(lambda: Codebook(groups, words, levels, width)))


def translator(kind: str = "convnext", width: int = WIDTH, out: int = WORDS, targets: int = 1) -> Count:
    """A translator of three blocks, here also of STAMP's adapters (``out`` = ``width``)."""
    names = [f"m{number}" for number in range(1, targets + 1)]
    args = {
        "in_channels": width,
        "out_channels": out,
        "in_cav_lidar_range": RANGE,
        "out_cav_lidar_range": RANGE,
        "in_feature_shape": [256, 256],
        "out_feature_shape": [256, 256],
        "submodule_args": {"num_of_blocks": 3, "dim": WIDTH, "embedding_dim": WIDTH, "modality_map": names},
    }
    found = on_meta(lambda: Translator(kind, args))
    total = count(found)
    silent = count(found, "translator.smoothing.").all if kind == "convnext" else 0
    return Count(total.all, total.used - silent)


@cache
def stage_0(modality: str) -> tuple[Count, Count]:
    """Encoder with backbone, and fusion with neck and heads, of a published modality."""
    library = read_document(DEFINITIONS).data
    base = load_file(SHIPPED / "sim" / "codealign" / "stage0" / "m1.yaml")
    args = {
        "lidar_range": RANGE,
        "anchor_number": 2,
        "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]},
        "in_head": 256,
        "fusion": {"method": "pyramidfusion", "backbone": PYRAMID, "shrink_head": NECK},
        modality: {**library["model"]["args"][modality], "model_path": ""},
    }
    heter = {"modality_setting": {modality: library["heter"]["modality_setting"][modality]}}
    hypes = {
        "flavor": "codealign",
        "heter": heter,
        "model": {"core_method": base["model"]["core_method"], "args": args},
    }
    model = on_meta(lambda: build_from_scratch(base.replaced(hypes)))
    return count(model, "encoder_", "backbone_"), count(model, "fusion_backbone", "shrink_conv", "cls_", "reg_", "dir_")


PYRAMID: dict[str, Any] = {
    "resnext": True,
    "layer_nums": [3, 5, 8],
    "layer_strides": [1, 2, 2],
    "num_filters": [64, 128, 256],
    "upsample_strides": [1, 2, 4],
    "num_upsample_filter": [128, 128, 128],
    "anchor_number": 2,
}
NECK = {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [256], "input_dim": 384}


@cache
def heal(modality: str) -> Count:
    """HEAL's backward alignment of a modality of its own: encoder, backbone and aligner train."""
    hypes = load_file(HEAL_STAGE_2 / f"{modality}_single_pyramid.yaml")
    return count(on_meta(lambda: build_from_scratch(hypes)), trains=True)


@dataclass(frozen=True)
class Bookkeeping:
    """One way to count what three more modalities cost CodeAlign.

    Attributes:
        groups: sizes of the groups the three form; ``joins``: they join a code space that is there.
        kind: of translator.
        directions: 1 = to the group that is there; 2 = back as well.
        backend: whether fusion, neck and heads of a group train too, as in the published template of groups.
    """

    groups: tuple[int, ...]
    kind: str = "convnext"
    directions: int = 1
    joins: bool = False
    backend: bool = False

    def total(self) -> Count:
        """What trains for all modalities of the groups."""
        if self.joins:
            return aligner() * sum(self.groups)
        spoken = translator(self.kind, targets=2) * self.directions if self.directions else Count(0, 0)
        backend = stage_0("m1")[1] if self.backend else Count(0, 0)
        total = Count(0, 0)
        for size in self.groups:
            total = total + aligner() * size + codebook() + spoken + backend
        return total

    def __str__(self) -> str:
        if self.joins:
            return f"{sum(self.groups)} join a code space that is there"
        shape = " + ".join(map(str, self.groups))
        way = "one direction" if self.directions == 1 else "both directions"
        return f"groups of {shape}, {self.kind}, {way}" + (", backend too (published template)" if self.backend else "")


SHAPES = (
    Bookkeeping((3,), joins=True),
    Bookkeeping((3,)),
    Bookkeeping((1, 1, 1)),
    Bookkeeping((1, 1, 1), "convnext_with_modal_heads"),
    Bookkeeping((1, 1, 1), directions=2),
    Bookkeeping((2, 1)),
    Bookkeeping((3,), backend=True),
)


def parameter_lines() -> list[list[str]]:
    """Parameters that train for three more modalities, and their share of what HEAL trains for its three."""
    reference = sum((heal(m) for m in ADDED_BY_HEAL), Count(0, 0))
    told = ", ".join(f"{m} {heal(m).all:,}" for m in ADDED_BY_HEAL)
    lines = [[f"HEAL, backward alignment ({told})", str(reference), "100.0 %"]]
    others = {f"CodeAlign, {shape}": shape.total() for shape in SHAPES}
    others["STAMP, adapter and reverter of each, 128 channels"] = translator(width=128, out=128) * 6
    others[f"STAMP, the same at {WIDTH} channels"] = translator(out=WIDTH) * 6
    others["CodeFilling, one code space for the fleet (r 3, m 2, k 16), 128 channels"] = codebook(3, 2, WORDS, 128)
    shares = {name: f"{cost.all / reference.all:.1%}".replace("%", " %") for name, cost in others.items()}
    return lines + [[name, str(cost), shares[name]] for name, cost in others.items()]


def modality_lines() -> list[list[str]]:
    """For each published modality: its own network, what CodeAlign and what HEAL's rule would train to add it."""
    heal_aligner = count(on_meta(lambda: AlignNet("convnext", {"dim": WIDTH, "num_of_blocks": 3})))
    alone = Bookkeeping((1,)).total()
    lines = []
    for modality in DEFINED:
        network, _ = stage_0(modality)
        by_heal = network + heal_aligner
        cells = [str(network), str(aligner()), str(alone), str(by_heal)]
        lines.append([modality, *cells, f"{alone.all / by_heal.all:.0%}".replace("%", " %")])
    return lines


def message_lines() -> list[list[str]]:
    """Payload bits per sender and frame, without headers and poses, and how many times less than 64 float maps."""
    word = bits_for(WORDS)
    ways: Mapping[str, int] = {
        "dense features, 64 channels float32 (HEAL, MPDA, CodeAlign use_d2d)": FLOAT_BITS * WIDTH,
        "the same in float16": FLOAT_BITS // 2 * WIDTH,
        "dense features, 128 channels float32": FLOAT_BITS * 2 * WIDTH,
        "CodeFilling, r 3, m 2, k 16, every cell, and its mask": 3 * 2 * word + 1,
        "CodeAlign, k 64": bits_for(64),
        "CodeAlign, k 16, per group of receivers": word,
        "CodeAlign, k 16, receivers in three groups": 3 * word,
        "CodeAlign, k 4": bits_for(4),
    }
    lines = []
    for name, bits in ways.items():
        ratio = FLOAT_BITS * WIDTH / bits
        sizes = [f"{bits * cells:,.0f}" for cells in (LIDAR_CELLS, CAMERA_CELLS)]
        lines.append([name, str(bits), *sizes, f"{ratio:g}", f"{2 * ratio:g}"])
    return lines


def grids() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, header and lines of every table."""
    with torch.no_grad():
        yield (
            "Parameters that train when three modalities are added",
            ["what is counted", "parameters", "of HEAL's"],
            parameter_lines(),
        )
        yield (
            "One modality of the published definitions",
            ["modality", "encoder and backbone", "joins a code space", "a group of its own", "by HEAL's rule", "ratio"],
            modality_lines(),
        )
        yield (
            "Bits per sender and frame, at +-102.4 m",
            ["message", "bits per cell", "LiDAR, 256 x 256", "camera, 128 x 128", "of 64 channels", "of 128 channels"],
            message_lines(),
        )


def as_text() -> str:
    """All tables for a terminal."""
    return "\n\n".join(f"{title}\n{text_table(header, lines)}" for title, header, lines in grids())


def write_markdown(file: Path) -> Path:
    """All tables as a Markdown file."""
    parts = [f"**{title}**\n\n{markdown_table(header, lines)}" for title, header, lines in grids()]
    return write_text(file, "\n\n".join(parts) + "\n")
