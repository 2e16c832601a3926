"""CodeFilling: cells worth sending, each as the numbers of a few words (spec gencomm.md 1.5, 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opencood.communication import Message
from opencood.communication.bits import pack_bits, unpack_bits, width_of
from opencood.models.links.base import Link
from opencood.models.links.codefilling_mask import CommunicationMask
from opencood.models.links.codefilling_quantizer import LEVELS, CodeFillingQuantizer, WordDraws
from opencood.models.links.degradation import Degradation
from opencood.models.scene import SceneFeatures

READ = ("_map", "_mask", "_confidence")


@dataclass
class CodeFillingParts:
    """The parts of the detector that the link is made of."""

    quantizer: CodeFillingQuantizer
    mask: CommunicationMask
    draws: WordDraws
    degradation: Degradation | None = None


class CodeFillingLink(Link):
    """Sends the codes of the cells that a mask chooses, packed as bits; the ego keeps its own feature.

    With one memory for all agents nothing is packed: the restored map is handed on, so that gradients flow. Extra
    outputs: ``comm_rate``, the share of cells that was sent, and there also ``codebook_loss``.
    """

    def __init__(self, parts: CodeFillingParts) -> None:
        super().__init__()
        self._parts = parts
        self._confidence: Callable[[Tensor], Tensor] | None = None

    def bind(self, probes: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        """The probe ``confidence``: class logits of a map."""
        self._confidence = probes["confidence"]

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """Bytes of mask and codes when an agent sends by itself; otherwise ``_map`` and ``_mask`` (n, ...)."""
        quantizer, level = self._parts.quantizer, own.map
        rows = level.permute(0, 2, 3, 1).flatten(0, 2)  # (n H W, C)
        cells = level.shape[-2] * level.shape[-1]
        uniforms = self._parts.draws(len(level), (cells, quantizer.groups, quantizer.words), level)
        restored, codes, _ = quantizer(rows, uniforms)
        if own.is_alone:
            return self._packed(torch.stack(codes, dim=1), level)
        loss = ((restored - rows.detach()) ** 2).unflatten(0, (len(level), -1)).mean(dim=(1, 2))
        as_map = _as_map(restored, level)
        confidence = self.confidence(as_map)
        mask = self._parts.mask.worth_sending(confidence)
        return Message({"_map": as_map, "_mask": mask, "_confidence": confidence, "_loss": loss})

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The restored maps (N, C, H, W) where they were sent, zero elsewhere; the egos' maps as they are."""
        parts, slots = self._parts, target.places[1]
        read = [self._unpacked(message, ego.map) if "codes" in message.tensors else message for message in messages]
        level, sent, confidence = (torch.cat([one.tensors[name] for one in read]) for name in READ)
        of_ego = (slots == 0).to(level.device)[:, None, None, None]
        own = ego.map[target.places[0].to(level.device)]
        if parts.degradation is not None:
            level = parts.degradation(level, slots)
        level = torch.where(of_ego, own, level)
        confidence = torch.where(of_ego, self.confidence(own), confidence)
        mask = sent.to(level) * parts.mask.selected(confidence, target)
        aux = {"comm_rate": parts.mask.rate(mask, target)}
        if all("_loss" in message.tensors for message in messages):
            aux["codebook_loss"] = torch.cat([message.tensors["_loss"] for message in messages]).mean()
        return target.with_maps(level * torch.where(of_ego, torch.ones_like(mask), mask), **aux)

    def confidence(self, level: Tensor) -> Tensor:
        """Confidence (n, 1, H, W) that something is in a cell of a map; the choice of cells passes no gradient on."""
        assert self._confidence is not None, "bind() comes first"
        with torch.no_grad():
            return self._parts.mask.confidence(self._confidence(level))

    def _packed(self, codes: Tensor, level: Tensor) -> Message:
        """One agent's message: a bit per cell, and the codes (cells, levels, groups) of the cells that are sent."""
        quantizer = self._parts.quantizer
        confidence = self.confidence(_as_map(quantizer.decode(codes), level))
        mask = self._parts.mask.worth_sending(confidence).flatten()
        tensors = {"mask": pack_bits(mask.long(), 1), "codes": pack_bits(codes[mask], width_of(quantizer.words))}
        if self._parts.mask.solver:
            tensors["confidence"] = confidence  # the ego compares the agents cell by cell
        return Message(tensors, kind="codes", words=("codes",))

    def _unpacked(self, message: Message, like: Tensor) -> Message:
        """What one agent's bytes say, as tensors of the batch path; ``like`` (B, C, H, W) tells the size of the map."""
        quantizer = self._parts.quantizer
        height, width = like.shape[-2:]
        mask = unpack_bits(message.tensors["mask"], 1, height * width).bool()
        count = int(mask.sum()) * LEVELS * quantizer.groups
        codes = unpack_bits(message.tensors["codes"], width_of(quantizer.words), count).clamp(max=quantizer.words - 1)
        rows = like.new_zeros(height * width, quantizer.channels)
        rows[mask] = quantizer.decode(codes.view(-1, LEVELS, quantizer.groups))
        level = rows.view(1, height, width, -1).permute(0, 3, 1, 2)
        sent = mask.view(1, 1, height, width)
        confidence = message.tensors.get("confidence", torch.zeros_like(level[:, :1]))
        return Message({"_map": level, "_mask": sent, "_confidence": confidence})


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """Rows (n H W, C) as maps (n, C, H, W)."""
    count, _, height, width = like.shape
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)
