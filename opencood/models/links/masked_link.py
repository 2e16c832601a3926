"""Words with a mask of the cells that the sender finds worth fusing (spec codealign.md 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.communication.packing import pack, unpack
from opencood.models.links.code_link import SharedSpaceLink
from opencood.models.scene import SceneFeatures
from opencood.models.smoothing import gaussian_filter

MASK = "mask"
# Where the fuse stage finds the mask.
FUSED_MASK = "_mask"


class ConfidenceMask(nn.Module):
    """Cells whose smoothed confidence is above a threshold; key ``gaussian_filter``.

    The smoothing is an un-normalised density, and a convolution with a bias, as it lies in checkpoints.

    Args:
        thre: threshold.
        gaussian_smooth: {k_size, c_sigma} in cells, or None for no smoothing.
    """

    def __init__(self, thre: float, gaussian_smooth: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.threshold = thre
        self.smooths = gaussian_smooth is not None
        if gaussian_smooth is None:
            return
        self.gaussian_filter = gaussian_filter(int(gaussian_smooth["k_size"]), float(gaussian_smooth["c_sigma"]))
        self.requires_grad_(False)

    def forward(self, logits: Tensor) -> Tensor:
        """Class logits (n, A, H, W) of every anchor to the mask (n, 1, H, W) of booleans."""
        confidence = logits.sigmoid().amax(dim=1, keepdim=True)
        return (self.gaussian_filter(confidence) if self.smooths else confidence) > self.threshold


class MaskedLink(SharedSpaceLink):
    """Words, or the map, of every agent, and its mask; the receiver decides whose mask counts.

    All cells travel: the levels above are computed from all of them, and only their results are masked.

    Args:
        even_bypass: agents at even positions of their scene are fused without their mask (published); otherwise the
            egos alone are.
        own_rate: ``comm_rates`` is the share of the egos' masks (published), otherwise that of the other agents.
        codes: whether words are sent; maps otherwise.
    """

    def __init__(self, form: str, even_bypass: bool, own_rate: bool, codes: bool) -> None:
        super().__init__(form, keeps_ego=True)
        self.codes = codes
        self.even_bypass, self.own_rate = even_bypass, own_rate
        self._masker: tuple[ConfidenceMask | None] = (None,)
        self._confidence: Callable[[Tensor], Tensor] | None = None

    def join_masker(self, masker: ConfidenceMask) -> None:
        """Take what makes the masks."""
        self._masker = (masker,)

    def bind(self, probes: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        """Take the probe ``confidence``: class logits of a map."""
        self._confidence = probes["confidence"]

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The message of the words, and the mask (n, bytes), a bit per cell."""
        (masker,) = self._masker
        assert masker is not None and self._confidence is not None  # joined and bound by the builder
        mask = masker(self._confidence(own.map)).flatten(1)
        sent = super().send(own, request)
        return replace(sent, tensors={**sent.tensors, MASK: pack(mask, 1)})

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The maps, ``_mask`` (N, 1, H, W) of 0 and 1 for the fuse stage, and ``comm_rates``."""
        scene = super().receive(messages, ego, target)
        height, width = scene.map.shape[-2:]
        packed = torch.cat([message.tensors[MASK] for message in messages])
        mask = unpack(packed, height * width, 1).view(-1, 1, height, width).to(scene.map)
        _, slot = scene.places
        whole = (slot % 2 == 0) if self.even_bypass else (slot == 0)
        counted = mask[(slot == 0) if self.own_rate else (slot != 0)]
        rate = counted.mean() if len(counted) else mask.new_zeros(())
        fused = mask.masked_fill(whole.to(mask.device)[:, None, None, None], 1.0)
        return scene.with_maps(scene.map, comm_rates=rate, **{FUSED_MASK: fused})
