"""CodeFilling: cells worth sending, each as the numbers of a few words (spec gencomm.md 1.5, 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.communication.packing import bits_for, pack, unpack
from opencood.models.links.base import Link
from opencood.models.links.codefilling_mask import CommunicationMask
from opencood.models.links.degradation import Degradation
from opencood.models.links.noise import Noise
from opencood.models.links.quantizer import Codebook, Draws
from opencood.models.scene import SceneFeatures

READ = ("_map", "_mask", "_confidence")


class WordDraws(nn.Module):
    """The uniform numbers behind the choice of words; without parameters, so that it knows the mode of the detector.

    Args:
        in_test: whether words are drawn in evaluation too (published), the same way in every frame.
    """

    def __init__(self, in_test: bool, seed: int = 0) -> None:
        super().__init__()
        self.in_test = in_test
        self.uniform = Noise(torch.rand, seed)

    def forward(self, agents: int) -> Draws | None:
        """The draws for the cells of so many agents, or None where the nearest words are taken."""
        if not (self.training or self.in_test):
            return None
        # a sender does not know its place in a scene, so all agents draw alike in evaluation
        slots = torch.zeros(agents, dtype=torch.long)
        return lambda level, logits: self.uniform(slots, level, logits.unflatten(0, (agents, -1))).flatten(0, 1)


@dataclass
class CodeFillingParts:
    """The parts of the detector that the link is made of."""

    codebook: Codebook
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
        codebook, level = self._parts.codebook, own.map
        rows = level.permute(0, 2, 3, 1).flatten(0, 2)  # (n H W, C)
        samples, _ = codebook.choose(rows, self._parts.draws(len(level)))
        if own.is_alone:
            return self._packed(torch.stack([sample.argmax(dim=-1) for sample in samples], dim=1), level)
        restored = codebook.get_feature(samples)
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

    def _decoded(self, codes: Tensor) -> Tensor:
        """Codes (R, levels, groups) to the restored rows (R, C)."""
        return self._parts.codebook.get_feature(list(codes.unbind(dim=1)))

    def _packed(self, codes: Tensor, level: Tensor) -> Message:
        """One agent's message: a bit per cell, and the codes (cells, levels, groups) of the cells that are sent."""
        confidence = self.confidence(_as_map(self._decoded(codes), level))
        mask = self._parts.mask.worth_sending(confidence).flatten()
        chosen = codes[mask].view(1, -1)
        tensors = {"mask": pack(mask[None], 1), "codes": pack(chosen, bits_for(self._parts.codebook.dict_size))}
        if self._parts.mask.solver:
            tensors["confidence"] = confidence  # the ego compares the agents cell by cell
        return Message(tensors, kind="codes", words=("codes",))

    def _unpacked(self, message: Message, like: Tensor) -> Message:
        """What one agent's bytes say, as tensors of the batch path; ``like`` (B, C, H, W) tells the size of the map."""
        codebook = self._parts.codebook
        height, width = like.shape[-2:]
        mask = unpack(message.tensors["mask"], height * width, 1)[0].bool()
        count = int(mask.sum()) * codebook.layers
        codes = unpack(message.tensors["codes"], count, bits_for(codebook.dict_size)).clamp(max=codebook.dict_size - 1)
        rows = like.new_zeros(height * width, codebook.channel)
        rows[mask] = self._decoded(codes.view(-1, codebook.r, codebook.seg_num))
        level = rows.view(1, height, width, -1).permute(0, 3, 1, 2)
        sent = mask.view(1, 1, height, width)
        confidence = message.tensors.get("confidence", torch.zeros_like(level[:, :1]))
        return Message({"_map": level, "_mask": sent, "_confidence": confidence})


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """Rows (n H W, C) as maps (n, C, H, W)."""
    count, _, height, width = like.shape
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)
