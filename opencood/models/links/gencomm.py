"""GenComm: a small spatial message is sent, features are generated from it at the ego (spec gencomm.md 1.2, 1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.errors import ConfigError
from opencood.models.links.base import Link, joined
from opencood.models.links.degradation import Degradation
from opencood.models.links.diffusion import FeatureGenerator
from opencood.models.links.noise import Noise
from opencood.models.scene import SceneFeatures

STARTS = ("ego", "warped_ego", "noise")
SUPPORT = "_support"


class Sampling(nn.Module):
    """How the generator is used; a module without parameters, so that it knows the mode of the detector.

    Args:
        start: what the sampler starts from: the ego's feature as it is (``ego``, published: it lies in the ego's frame,
            the message in the sender's), the ego's feature seen from the sender (``warped_ego``), or noise alone.
        keep_ego_feature: the ego keeps the feature it has instead of one generated from its own message.
        noise: ``draws``, or ``none`` for a sampler that adds nothing.
        seed: of the draws in eval mode.
        trick: generated features count only where the sender's own feature is not zero. The sender's feature is not
            sent, so this is a leak.
    """

    def __init__(
        self,
        start: str = "ego",
        keep_ego_feature: bool = False,
        noise: str = "draws",
        seed: int = 0,
        trick: bool = False,
    ) -> None:
        super().__init__()
        for key, value, valid in (("start", start, STARTS), ("noise", noise, ("draws", "none"))):
            if value not in valid:
                raise ConfigError(f"model.args.sampling.{key}: '{value}' is none of {', '.join(valid)}.")
        self.start, self.keep_ego_feature, self.trick = start, keep_ego_feature, trick
        self.draws = Noise(torch.randn, seed) if noise == "draws" else None

    def forward(self, slots: Tensor, number: int, like: Tensor) -> Tensor:
        """Noise (N, C, H, W) of one draw for agents in the given slots (N,)."""
        return torch.zeros_like(like) if self.draws is None else self.draws(slots, number, like)


@dataclass
class GenCommParts:
    """The parts of the detector that the link reads; the message extractors ran before, at the senders."""

    generator: FeatureGenerator
    sampling: Sampling
    enhancer: nn.Module | None = None
    compressor: nn.Module | None = None
    degradation: Degradation | None = None


class GenCommLink(Link):
    """Sends level 1 of an agent's maps, the message, and generates level 0, its feature, from it.

    Extra outputs: ``pred_feature`` (N, C, H, W) and ``message`` (N, 2, H, W).
    """

    def __init__(self, parts: GenCommParts) -> None:
        super().__init__()
        self._parts = parts
        if parts.sampling.trick:
            # declared per detector: without `trick` nothing leaks
            self.leaks = ("trick: a mask of the cells in which the sender's own feature is not zero",)

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The message (n, 2, H, W)."""
        feature, message = own.maps
        tensors = {"message": message}
        if self._parts.sampling.trick:
            tensors[SUPPORT] = (feature != 0).any(dim=1, keepdim=True)
        return Message(tensors)

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """A generated feature (N, C, H, W) for every agent, in the agent's own frame."""
        parts = self._parts
        message, slots = joined(messages, "message"), target.places[1]
        if parts.degradation is not None:
            message = parts.degradation(message, slots)
        own = ego.maps[0] if parts.compressor is None else parts.compressor(ego.maps[0])
        start = self._start(own, target)
        generated = parts.generator(start, message, lambda number, like: parts.sampling(slots, number, like))
        if parts.sampling.trick:
            generated = generated * self._support(messages)
        read = generated
        if parts.sampling.keep_ego_feature:
            read = torch.where(_column(slots == 0, generated), start_of(own, target), generated)
        if parts.enhancer is not None:
            read = parts.enhancer(read)
        return target.with_maps(read, pred_feature=generated, message=message)

    def _start(self, own: Tensor, target: SceneFeatures) -> Tensor:
        kind = self._parts.sampling.start
        if kind == "noise":
            return torch.zeros_like(start_of(own, target))
        if kind == "warped_ego":
            return target.from_ego(start_of(own, target))
        return start_of(own, target)

    def _support(self, messages: Sequence[Message]) -> Tensor:
        if any(SUPPORT not in message.tensors for message in messages):
            raise ConfigError(
                "model.args.trick: the mask of the sender's feature is never sent, so it does not exist where messages "
                "go through a channel; set trick to false."
            )
        return joined(messages, SUPPORT)


def start_of(own: Tensor, target: SceneFeatures) -> Tensor:
    """The egos' maps (B, C, H, W), repeated for every agent of their scenes (N, C, H, W)."""
    return own[target.places[0].to(own.device)]


def _column(flags: Tensor, like: Tensor) -> Tensor:
    return flags.to(like.device)[:, None, None, None]
