"""Where a generator's noise comes from: fixed draws in evaluation, fresh ones in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# (slot of every agent in its scene (N,), number of the draw, shape of one agent's draw) -> (N, *shape) on the host.
Draw = Callable[[Tensor, int, tuple[int, ...]], Tensor]


class FixedDraws:
    """Numbers that depend on the seed, the agent's slot in its scene and the number of the draw alone.

    A frame then gives the same result whatever else is in its batch, on every device, and however often it is run. The
    draws of the current map size are kept.

    Args:
        draw: fills a shape from a generator: ``torch.randn``, ``torch.rand``.
    """

    def __init__(self, draw: Callable[..., Tensor], seed: int) -> None:
        self._draw, self._seed = draw, seed
        self._kept: dict[tuple[int, int, tuple[int, ...]], Tensor] = {}

    def __call__(self, slots: Tensor, number: int, shape: tuple[int, ...]) -> Tensor:
        """(N, *shape) for agents in the given slots (N,)."""
        return torch.stack([self._of(slot, number, shape) for slot in slots.tolist()])

    def _of(self, slot: int, number: int, shape: tuple[int, ...]) -> Tensor:
        key = (slot, number, shape)
        if key not in self._kept:
            if any(kept != shape for _, _, kept in self._kept):
                self._kept.clear()
            generator = torch.Generator().manual_seed((self._seed * 1000 + number) * 1000 + slot)
            self._kept[key] = self._draw(shape, generator=generator)
        return self._kept[key]


class Noise(nn.Module):
    """Draws for a part of the detector; a module without parameters, so that it knows the mode of the detector.

    In train mode numbers come from torch's global generator, which the trainer seeds for every step.

    Args:
        draw: ``torch.randn`` or ``torch.rand``.
        seed: of the fixed draws in eval mode.

    Attributes:
        source: takes the place of both when set: draws that are given from outside.
    """

    def __init__(self, draw: Callable[..., Tensor], seed: int = 0) -> None:
        super().__init__()
        self._draw = draw
        self._fixed = FixedDraws(draw, seed)
        self.source: Draw | None = None

    def forward(self, slots: Tensor, number: int, like: Tensor) -> Tensor:
        """Draw ``number`` for agents in the given slots (N,), shaped and placed as ``like`` (N, ...)."""
        shape = tuple(like.shape[1:])
        if self.source is not None:
            return self.source(slots, number, shape).to(like)
        if self.training:
            return self._draw(like.shape, dtype=like.dtype, device=like.device)
        return self._fixed(slots, number, shape).to(like)
