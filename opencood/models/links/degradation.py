"""Messages that arrive damaged: entries lost, noise added (spec gencomm.md 6.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.errors import ConfigError
from opencood.models.links.base import IdentityLink, Link
from opencood.models.links.noise import Noise
from opencood.models.scene import SceneFeatures

LOST, ADDED = 0, 1  # numbers of the draws


class Degradation(nn.Module):
    """Damages what egos receive, in eval mode; what an ego knows itself stays whole. No parameters.

    Args:
        drop: probability that an entry arrives as zero.
        noise_std: deviation of the Gaussian noise added to every entry that is read.
        seed: of the damage; the same frame is damaged in the same way.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(self, drop: float = 0.0, noise_std: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if not 0.0 <= drop <= 1.0 or noise_std < 0.0:
            raise ConfigError(
                f"model.args.degradation: drop lies between 0 and 1 and noise_std is not negative, not {drop}, "
                f"{noise_std}."
            )
        self.drop, self.noise_std = drop, noise_std
        self.uniform, self.normal = Noise(torch.rand, seed), Noise(torch.randn, seed)

    def forward(self, values: Tensor, slots: Tensor) -> Tensor:
        """Values (N, ...) of agents in the given slots of their scenes (N,), slot 0 being the ego."""
        if self.training:
            return values
        kept = self.uniform(slots, LOST, values) > self.drop
        damaged = values * kept
        if self.noise_std:
            damaged = damaged + self.noise_std * self.normal(slots, ADDED, values)
        of_ego = (slots == 0).to(values.device).view(-1, *[1] * (values.dim() - 1))
        return torch.where(of_ego, values, damaged)


class FeatureLink(Link):
    """Sends maps through another link, or as they are, and damages what arrives."""

    def __init__(self, inner: Link | None, degradation: Degradation | None) -> None:
        super().__init__()
        self.inner = IdentityLink() if inner is None else inner
        self.degradation = degradation

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """What the other link sends."""
        return self.inner.send(own, request)

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """What the other link reads, damaged."""
        received = self.inner.receive(messages, ego, target)
        if self.degradation is None:
            return received
        return received.with_maps(self.degradation(received.map, target.places[1]))
