"""Where2comm's link: agents send the cells they are sure of (Hu et al., 2022; spec homogeneous.md 3.8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.communication import Message
from opencood.models.links.base import Link, joined
from opencood.models.links.compressor import Codec
from opencood.models.links.first_level import Probes
from opencood.models.scene import SceneFeatures


class WhereLink(Link):
    """Sends features of confident cells and where they are; the ego keeps all of its own.

    Probes: ``level``, where there is one, makes what is sent of the map; ``confidence`` makes (n, 1, h, w) of that.

    Args:
        threshold: confidence above which a cell is sent in evaluation; 0 or None sends all.
        fully: send everything, in training too.
        codec: run on what is sent before cells are chosen.
    """

    def __init__(self, threshold: float | None, fully: bool = False, codec: Codec | None = None) -> None:
        super().__init__()
        self.threshold = threshold or 0.0
        self.fully = fully
        self._codec = (codec,)
        self._probes: Probes = {}

    def bind(self, probes: Probes) -> None:
        """Take the probes."""
        self._probes = probes

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """Of one agent the ``values`` (K, C) in the sent ``cells`` (K,), row by row; of a batch the masked ``map``.

        Both with the ``rate`` (n,) of cells that were chosen.
        """
        level = self._level(own.map)
        chosen = self._chosen(self._probes["confidence"](level), own)
        kept = self._coded(level) * _resized(chosen, level)
        rate = {"rate": chosen.mean(dim=(1, 2, 3))}
        if own.agents > 1:
            return Message({"map": kept, **rate})
        cells = _resized(chosen, level).flatten().nonzero()[:, 0]
        values = kept[0].flatten(1).T[cells]
        tensors = {"values": values, "cells": cells.to(torch.int32), **rate}
        return Message(tensors, entries={"values": 0, "cells": 0}, importance=values.abs().amax(dim=1))

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """Maps with zeros in cells that were not sent; ``com``, the mean rate, as extra output."""
        own = self._coded(self._level(ego.map))
        maps = torch.cat([_map_of(message, own) for message in messages])
        maps = maps.index_copy(0, torch.tensor(target.egos, device=maps.device), own)
        rates = joined(messages, "rate")
        counts = torch.tensor(target.record_len, device=rates.device)
        return target.with_maps(maps, com=(target.pad(rates).sum(dim=1) / counts).mean())

    def _level(self, level: Tensor) -> Tensor:
        return self._probes["level"](level) if "level" in self._probes else level

    def _coded(self, level: Tensor) -> Tensor:
        (codec,) = self._codec
        return level if codec is None else codec(level)

    def _chosen(self, confidence: Tensor, own: SceneFeatures) -> Tensor:
        """1 at the cells (n, 1, h, w) that an agent sends.

        In training each scene draws how many of its agents' most confident cells are sent.
        """
        if self.fully or not (self.training or self.threshold):
            return torch.ones_like(confidence)
        if not self.training:
            return (confidence > self.threshold).to(confidence)
        cells = confidence.flatten(1)
        share = torch.rand(len(own.record_len)).repeat_interleave(torch.tensor(own.record_len))
        keep = (share * cells.shape[1]).long().to(cells.device)
        rank = cells.argsort(dim=1, descending=True).argsort(dim=1)
        return (rank < keep[:, None]).to(confidence).view_as(confidence)


def _resized(chosen: Tensor, like: Tensor) -> Tensor:
    """The choice at the size of another map, where it weighs cells in between."""
    if chosen.shape[-2:] == like.shape[-2:]:
        return chosen
    return F.interpolate(chosen, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _map_of(message: Message, like: Tensor) -> Tensor:
    """The map (n, C, H, W) a message holds; ``like`` has its size."""
    if "map" in message.tensors:
        return message.tensors["map"]
    _, channels, height, width = like.shape
    empty = like.new_zeros(height * width, channels)
    cells = empty.index_copy(0, message.tensors["cells"].long(), message.tensors["values"].to(like))
    return cells.view(1, height, width, channels).permute(0, 3, 1, 2)
