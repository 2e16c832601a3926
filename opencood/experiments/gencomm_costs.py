"""What it costs, at published size, that one more type of agents joins: GenComm and the baselines beside it.

Nothing is loaded: the detectors of the shipped second stages are built on the meta device, where a SECOND agent (m3)
joins PointPillar agents (m1) on OPV2V. Counted are the parameters that train then, the operations of those parts in the
forward pass of one agent, and the bytes of the joining agent's message. Source: spec gencomm.md 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from opencood.communication import Message, encode
from opencood.communication.packing import bits_for, pack
from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_file
from opencood.evaluation.files import write_text
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments.build import build_from_scratch
from opencood.experiments.describe import describe
from opencood.experiments.meta_batch import META
from opencood.models.links.quantizer import Codebook

FOLDER = SHIPPED / "opv2v" / "GenComm_yamls"
JOINS, SCENE = "m3", 2  # agents: m1, the ego, and m3
MAP = (128, 64, 128)  # channels, rows, columns of what agents fuse
HEADER = ("method", "what trains", "parameters", "GFLOP", "message, bytes")
NAMES = {"gencomm": "GenComm", "backalign": "BackAlign", "stamp": "STAMP", "codefilling": "CodeFilling", "mpda": "MPDA"}
BASELINE = "stamp"


@dataclass(frozen=True)
class Cost:
    """One method: parts that train when a type joins, their parameters and operations, bytes of its message."""

    method: str
    parts: tuple[str, ...]
    parameters: int
    flops: float
    message: int

    def cells(self) -> list[str]:
        """Its line of the table."""
        return [
            NAMES[self.method], ", ".join(self.parts), f"{self.parameters:,}", f"{self.flops / 1e9:.2f}",
            f"{self.message:,}",
        ]  # fmt: skip


def costs() -> dict[str, Cost]:
    """Every method by name."""
    files = {
        "gencomm": FOLDER / "gencomm" / "stage2" / "m1m3_att.yaml",
        "backalign": FOLDER / "baselines" / "stage2" / "BackAlign" / "m1m3_att.yaml",
        "codefilling": FOLDER / "baselines" / "stage2" / "CodeFilling" / "m1m3_att.yaml",
        "mpda": FOLDER / "baselines" / "stage2" / "MPDA" / "m1m3_att.yaml",
    }
    found = {method: _of_detector(method, load_file(file)) for method, file in files.items()}
    found["stamp"] = _of_stamp(load_file(FOLDER / "baselines" / "stage2" / "STAMP" / "m0m3_att.yaml"))
    return {method: found[method] for method in NAMES}


def lines() -> list[str]:
    """The table and what it says, as text."""
    found = costs()
    return [text_table(HEADER, [cost.cells() for cost in found.values()]), "", *_remarks(found)]


def write_markdown(out: Path) -> str:
    """Write the table as Markdown; returns what was written where."""
    found = costs()
    table = markdown_table(HEADER, [cost.cells() for cost in found.values()])
    write_text(out, "\n".join([table, "", *(f"* {line}" for line in _remarks(found))]) + "\n")
    return f"wrote {out}"


def _remarks(found: dict[str, Cost]) -> list[str]:
    ours, baseline = found["gencomm"], found[BASELINE]
    fewer = (1 - ours.parameters / baseline.parameters) * 100
    less = (1 - ours.flops / baseline.flops) * 100
    return [
        f"GenComm trains {fewer:.1f} % fewer parameters than the adapters of {NAMES[BASELINE]} and computes {less:.1f} "
        "% less in what it adds.",
        "CodeFilling and MPDA train anew for all types together. MPDA's classifier and heads train and are counted.",
        "A SECOND agent joins PointPillar agents on OPV2V; maps of 128 x 64 x 128; one agent; a multiplication and an "
        "addition count as two operations.",
    ]


def _of_detector(method: str, hypes: Hypes) -> Cost:
    """From the description of a detector that collaborates."""
    report = describe(hypes, agents=SCENE)
    trained = [part for part in report.parts if part.trainable and part.name != "communication"]
    # parts whose output has a row for every agent ran for all of them
    shared = {"coodbook", "classifier"}
    flops = sum(part.flops / (SCENE if part.name in shared else 1) for part in trained)
    message = report.messages.get(f"of {JOINS}", 0) // 8 or _codes(hypes)
    names = tuple(part.name for part in trained)
    return Cost(method, names, sum(part.trainable for part in trained), flops, message)


def _of_stamp(hypes: Hypes) -> Cost:
    """From the training of adapters, whose parts see one map each."""
    with META:
        model = build_from_scratch(hypes)
    parts = {name: part for name, part in model.named_children() if any(p.requires_grad for p in part.parameters())}
    level = torch.empty(1, *MAP, device="meta")
    message = len(encode(Message({"protocol": torch.zeros(level.shape)})))
    flops = sum(_flops(part, level) for part in parts.values())
    return Cost("stamp", tuple(parts), _size(parts.values()), flops, message)


def _size(parts: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


@torch.inference_mode()
def _flops(run: Callable[[torch.Tensor], torch.Tensor], level: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        run(level)
    return counter.get_total_flops()


def _codes(hypes: Hypes) -> int:
    """Bytes of CodeFilling's message when every cell is sent, as the published threshold of 0 means."""
    with META:
        codebook = build_from_scratch(hypes).get_submodule("coodbook")
    assert isinstance(codebook, Codebook)
    cells = MAP[1] * MAP[2]
    counts = {"mask": (cells, 1), "codes": (cells * codebook.layers, bits_for(codebook.dict_size))}
    tensors = {name: pack(torch.zeros(1, count), bits) for name, (count, bits) in counts.items()}
    return len(encode(Message(tensors, kind="codes")))
