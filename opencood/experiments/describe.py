"""What a detector is made of: stages, shapes, parameters, operations and message sizes, without weights or data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opencood.communication import Message, encode
from opencood.config.loader import Hypes
from opencood.config.pretrain import refuse_pretraining
from opencood.config.tree import section
from opencood.errors import ConfigError
from opencood.experiments.backend_egos import backends_of
from opencood.experiments.build import build_from_scratch
from opencood.experiments.fusion_methods import dataset_family
from opencood.experiments.meta_batch import META, meta_batch
from opencood.experiments.model_trace import PartReport, Trace
from opencood.models.adapter_training import AdapterTraining
from opencood.models.detector import Detector
from opencood.models.encoders.lift_splat_shoot_geometry import CellSum
from opencood.models.parts import modalities as modalities_of
from opencood.models.typewise import PROTOCOL

VOXELS = 10_000


@dataclass(frozen=True)
class ModelReport:
    """A detector in figures; ``messages`` maps what is sent to its size in bits, header included."""

    core_method: str
    summary: str
    agents: tuple[str, ...]
    parts: tuple[PartReport, ...]
    messages: Mapping[str, int]
    notes: tuple[str, ...]

    def total(self, of: Callable[[PartReport], int]) -> int:
        """Sum over the parts."""
        return sum(map(of, self.parts))

    def lines(self) -> list[str]:
        """The report as text."""
        trainable, frozen = self.total(lambda part: part.trainable), self.total(lambda part: part.frozen)
        trained = self.total(lambda part: part.flops if part.trainable else 0)
        fixed = self.total(lambda part: part.flops if not part.trainable else 0)
        return [
            f"{self.core_method}: {self.summary}",
            *_table(self.parts),
            "",
            f"parameters: {trainable + frozen:,} ({trainable:,} trainable, {frozen:,} frozen)",
            f"operations for {len(self.agents)} agent(s) ({', '.join(self.agents)}): {_giga(trained + fixed)} "
            f"({_giga(trained)} in parts that train, {_giga(fixed)} in frozen ones and without parameters)",
            *(f"message {kind}: {bits:,} bits ({bits / 8 / 1024:,.1f} KiB)" for kind, bits in self.messages.items()),
            *self.notes,
        ]


def describe(hypes: Hypes, agents: int | None = None, voxels: int = VOXELS) -> ModelReport:
    """Build the detector on the meta device and send one scene through it, or one agent of each modality by itself.

    Args:
        agents: agents in the scene, whose modalities are those of the model in turn; None is one of each, at least two.
        voxels: cells with points, for each agent.

    Raises:
        ConfigError: no model, or the configuration does not say what its sensors give.
    """
    refuse_pretraining(hypes, "there are no stages to describe; what it hides depends on the points")
    with META:
        model = build_from_scratch(hypes)
    model.eval()
    names = modalities_of(section(hypes, "model.args")) or ["lidar"]
    names.sort(key=lambda name: name not in backends_of(hypes))  # who has a backend may lead
    detector = model if isinstance(model, Detector) else None
    also = [PROTOCOL] if isinstance(model, AdapterTraining) else []
    names = [name for name in names if name not in also]
    together = detector is None or detector.assembly.collaborates
    count = agents or max(2, len(names))
    scene = [names[number % len(names)] for number in range(count)] if together else names
    key = "inputs_{m}" if detector is None else detector.assembly.batch_key
    scenes = [scene] if together else [[name] for name in scene]
    batches = [meta_batch(hypes, part, key, voxels, also) for part in scenes]
    trace = Trace(model)
    with without_content(model), trace, torch.inference_mode():
        for batch in batches:
            model(batch)
    messages, notes = _messages(hypes, detector, batches[0])
    return ModelReport(
        str(hypes["model"]["core_method"]),
        detector.assembly.summary if detector else "a module of its own",
        tuple(scene),
        tuple(trace.parts()),
        messages,
        (
            *notes,
            f"assumed: {voxels:,} cells with points for each LiDAR, a filled square flat on the ground",
            "operations: matrix products and convolutions, a multiplication and an addition counting as two",
        ),
    )


@contextmanager
def without_content(model: nn.Module) -> Iterator[None]:
    """Let modules whose work depends on where points fall give the shape of their result only."""
    changed = [module for module in model.modules() if isinstance(module, CellSum)]
    for module in changed:
        module.forward = _shape_of_sum(module)  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _shape_of_sum(module: CellSum) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    columns, rows, heights = module.cells

    def forward(points: Tensor, weights: Tensor, features: Tensor) -> Tensor:
        shape = features.new_empty(len(points), heights, features.shape[1], rows, columns)
        return shape + features.sum() + weights.sum()  # gradients go where they would

    return forward


def _messages(hypes: Hypes, detector: Detector | None, batch: Mapping[str, Any]) -> tuple[dict[str, int], list[str]]:
    """Sizes of the messages, one for each kind of agent, and what else is to be said about them."""
    family = dataset_family(str(section(hypes, "fusion").get("core_method", "intermediate")))
    if family != "intermediate":
        sent = {"late": "the boxes it found", "early": "its points"}[family]
        return {}, [f"message: each agent sends {sent}; the size depends on the data (see inference.py)"]
    if detector is None:
        return {}, ["message: a module of its own does not say what it sends"]
    if not detector.assembly.collaborates:
        return {}, ["message: none, this detector is trained alone"]
    try:
        messages = _sent(detector, batch)
    except (NotImplementedError, RuntimeError) as error:
        if not _lacks_content(error):
            raise
        return {}, ["message: its size depends on the data (see inference.py)"]
    return {f"of {m}" if m else "of an agent": message_bits(message) for m, message in messages.items()}, []


def _lacks_content(error: Exception) -> bool:
    """Whether an operation failed because tensors on the meta device have no content, in PyTorch's words."""
    return any(words in str(error) for words in ("register_meta", "Meta tensors", "meta tensor"))


@torch.inference_mode()
def _sent(detector: Detector, batch: Mapping[str, Any]) -> dict[str, Message]:
    """What the agents of a scene answer to the first one, by modality (an empty name in homogeneous detectors)."""
    with without_content(detector):
        scene = detector.encode(batch)
    asked = detector.link.request(scene.alone(0))
    agents = [scene.alone(row) for row in range(scene.agents)]
    return {agent.modality[0] if agent.modality else "": detector.link.send(agent, asked) for agent in agents}


def sent_messages(hypes: Hypes, modalities: Sequence[str], voxels: int = VOXELS) -> dict[str, Message]:
    """Messages without content of agents of some modalities, the first of which is the ego.

    Raises:
        ConfigError: the detector has no link.
    """
    with META:
        model = build_from_scratch(hypes)
    if not isinstance(model, Detector):
        raise ConfigError(f"model.core_method: {hypes['model']['core_method']} is a module of its own.")
    return _sent(model.eval(), meta_batch(hypes, modalities, model.assembly.batch_key, voxels))


def payload_bits(message: Message) -> int:
    """Bits of the tensors of a message, headers aside; those with a slash in their names are about a map, not of it."""
    sent = (tensor for name, tensor in message.sent.items() if "/" not in name)
    return sum(8 * tensor.numel() * tensor.element_size() for tensor in sent)


def message_bits(message: Message) -> int:
    """Bits of a message whose content does not matter."""
    blank = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in message.tensors.items()}
    return 8 * len(encode(Message(blank, kind=message.kind)))


def _giga(flops: int) -> str:
    return f"{flops / 1e9:,.2f} GFLOP"


def _table(parts: Sequence[PartReport]) -> list[str]:
    rows = [("stage", "part", "gives", "trainable", "frozen", "GFLOP")]
    for part in parts:
        shape = " x ".join(map(str, part.shape)) or "-"
        rows.append(
            (part.stage, part.name, shape, f"{part.trainable:,}", f"{part.frozen:,}", f"{part.flops / 1e9:,.2f}")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
