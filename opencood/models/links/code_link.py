"""Agents that send words: of a code space they share, or of the receiver's, into which they translate.

Source: spec codealign.md 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.geometry.warp import normalize_pairwise
from opencood.models.links.base import Link
from opencood.models.links.quantizer import Codebook
from opencood.models.links.wire import Wire
from opencood.models.scene import SceneFeatures, in_agent_order


class CodeLink(Link):
    """What every link with code spaces does: words on the wire, decoded maps behind it.

    In train mode the straight-through samples travel, so that gradients pass; in eval mode their words, as bytes.

    Args:
        form: how the words travel, see :class:`Wire`.
        compares: give the maps as the ego sees them (``single_feature_warped``, ``single_warp_mask``), for losses.
    """

    def __init__(self, form: str = "packed", compares: bool = False) -> None:
        super().__init__()
        self.form, self.compares = form, compares
        self._crops: dict[str, nn.Module] = {}

    def join(self, crops: Mapping[str, nn.Module]) -> None:
        """Take the parts that fit a modality's map to the scene's after it is read."""
        self._crops = dict(crops)

    def wire(self, codebook: Codebook) -> Wire:
        """How words of a code space travel."""
        return Wire(codebook.layers, codebook.dict_size, self.form)

    def write(self, codebook: Codebook, modality: str, samples: Tensor) -> dict[str, Tensor]:
        """What carries samples (n, layers, words, H, W) of agents of one modality."""
        if self.training:
            return {modality: samples}
        return self.wire(codebook).write(modality, samples.argmax(2))

    def read(self, codebook: Codebook, modality: str, messages: Sequence[Message]) -> Tensor:
        """The decoded maps (n, C, H, W) of what the messages hold of agents of one modality."""
        if self.training:
            return codebook.decode_map(self.read_map(modality, messages))
        return codebook.decode_map(self.wire(codebook).read(modality, messages))

    def read_map(self, modality: str, messages: Sequence[Message]) -> Tensor:
        """The maps (n, C, H, W) that agents of one modality sent as they are."""
        return torch.cat([message.tensors[modality] for message in messages if modality in message.tensors])

    def arrived(self, maps: Mapping[str, Tensor], target: SceneFeatures, **aux: Any) -> SceneFeatures:
        """The scene of the maps by modality, cropped or padded to one size, with what losses and reports read."""
        fitted = {m: self._crops[m](level) if m in self._crops else level for m, level in maps.items()}
        level = in_agent_order(fitted, target.modality)
        if target.pairwise is not None and target.extent is not None:
            aux["affine_matrix"] = normalize_pairwise(target.pairwise, *target.extent)
        scene = target.with_maps(level, agent_modality_list=list(target.modality), **aux)
        return scene.with_maps(level, **_as_seen(scene)) if self.compares else scene


class SharedSpaceLink(CodeLink):
    """All agents describe their maps by the words of one code space; without one they send the maps.

    Args:
        loss_per_modality: the reconstruction loss is the sum over modalities instead of the mean over all elements.
        keeps_ego: the ego reads its own map as it was.
    """

    def __init__(
        self, form: str = "packed", compares: bool = False, loss_per_modality: bool = False, keeps_ego: bool = False
    ) -> None:
        super().__init__(form, compares)
        self.loss_per_modality, self.keeps_ego = loss_per_modality, keeps_ego
        self._codebook: tuple[Codebook | None] = (None,)

    def join_space(self, codebook: Codebook | None) -> None:
        """Take the code space."""
        self._codebook = (codebook,)

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """Words, or maps, by modality; the maps themselves are kept for the reconstruction loss."""
        (codebook,) = self._codebook
        maps = {m: own.of_modality(m) for m in dict.fromkeys(own.modality)}
        if codebook is None:
            return Message(maps)
        tensors: dict[str, Tensor] = {}
        for m, level in maps.items():
            tensors |= self.write(codebook, m, codebook.encode_map(level))
        return Message(tensors, "codes", maps, words=self.wire(codebook).words_of(maps))

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The decoded maps, and ``codebook_loss`` where the senders' own maps are at hand."""
        (codebook,) = self._codebook
        names = list(dict.fromkeys(target.modality))
        if codebook is None:
            return self.arrived({m: self.read_map(m, messages) for m in names}, target)
        maps = {m: self.read(codebook, m, messages) for m in names}
        aux = {}
        if all(message.kept for message in messages):
            aux["codebook_loss"] = self._loss(maps, {m: _kept(m, messages) for m in names})
        scene = self.arrived(maps, target, **aux)
        return scene.with_maps(_with_egos(scene, ego)) if self.keeps_ego else scene

    def _loss(self, maps: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Tensor:
        squares = [(maps[m] - own[m].detach()).square() for m in maps]
        if self.loss_per_modality:
            return torch.stack([square.mean() for square in squares]).sum()
        return torch.stack([square.sum() for square in squares]).sum() / sum(square.numel() for square in squares)


def _kept(modality: str, messages: Sequence[Message]) -> Tensor:
    return torch.cat([message.kept[modality] for message in messages if modality in message.kept])


def _as_seen(scene: SceneFeatures) -> dict[str, list[Tensor]]:
    """Every agent's map in its ego's view by nearest cell, and where it has one, per scene."""
    warped = scene.to_ego(scene.map, mode="nearest")
    counts = list(scene.record_len)
    return {
        "single_feature_warped": list(warped.split(counts)),
        "single_warp_mask": list((warped.sum(dim=1) != 0).split(counts)),
    }


def _with_egos(scene: SceneFeatures, ego: SceneFeatures) -> Tensor:
    """The maps of the scene with the egos' own in their place."""
    level = scene.map.clone()
    level[scene.egos] = ego.map.to(level)
    return level
