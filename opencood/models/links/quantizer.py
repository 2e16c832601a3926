"""The code space: cells of a map as words of learned dictionaries (spec codealign.md 1; CodeFilling: gencomm.md 4.1).

A cell of C channels is described by ``r`` levels, each of ``seg_num`` groups, each by one of ``dict_size`` words. What
is left after a level is what the next one describes; the decoder runs from the last level to the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.links.sampling import LowerBound, Uniforms, straight_through
from opencood.models.precision import own_precision
from opencood.registry import register

LEAST_TEMPERATURE = 1e-6
# From the number of a level and its logits to numbers in (0, 1) of their shape.
Draws = Callable[[int, Tensor], Tensor]


class Quantised(NamedTuple):
    """What became of n cells.

    Attributes:
        feature: (n, C), decoded.
        codes: per level (n, groups), the words without noise.
        logits: per level (n, groups, words).
        loss: mean squared difference of the decoded cells from the given ones.
    """

    feature: Tensor
    codes: list[Tensor]
    logits: list[Tensor]
    loss: Tensor


class _Bound(nn.Module):
    """A number that lies in checkpoints under ``bound``."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound]))

    def forward(self, x: Tensor) -> Tensor:
        """Not below the bound."""
        return LowerBound.apply(x, self.bound)


class _Dictionary(nn.Module):
    """The words of one level, (groups, words, width)."""

    def __init__(self, words: nn.Parameter) -> None:
        super().__init__()
        self._codebook = words

    def forward(self, choices: Tensor) -> Tensor:
        """Cells (n, C) of choices: words (n, groups) as integers, or weights of all words (n, groups, words)."""
        if choices.is_floating_point():
            return torch.einsum("ngk,gkd->ngd", choices, self._codebook).flatten(1)
        groups = torch.arange(len(self._codebook), device=choices.device)
        return self._codebook[groups, choices].flatten(1)


class _Matcher(_Dictionary):
    """How well each word fits a cell."""

    def __init__(self, words: nn.Parameter) -> None:
        super().__init__(words)
        self._temperature = nn.Parameter(torch.ones(len(words), 1))
        self._bound = _Bound(LEAST_TEMPERATURE)

    def forward(self, cells: Tensor) -> Tensor:
        """Logits (n, groups, words) of cells (n, C): negative squared distances, in full precision."""
        with own_precision(cells):
            words = self._codebook.float()
            groups, count, width = words.shape
            parts = cells.float().view(-1, groups, width)
            near = torch.einsum("ngd,gkd->ngk", parts, words)
            distance = parts.square().sum(-1, keepdim=True) + words.square().sum(-1) - 2 * near
            return -distance / math.sqrt(count) * self._bound(self._temperature)


class _EncoderLevel(nn.Module):
    def __init__(self, words: nn.Parameter, channel: int, last: bool) -> None:
        super().__init__()
        self._quantizer = _Matcher(words)
        self._dequantizer = _Dictionary(words)
        self._latentStageEncoder = nn.Linear(channel, channel)
        self._quantizationHead = nn.Linear(channel, channel)
        if not last:
            self._latentHead = nn.Linear(channel, channel)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, groups, words), and the latent cells (n, C)."""
        latent = self._latentStageEncoder(cells)
        return self._quantizer(self._quantizationHead(latent)), latent

    def rest(self, latent: Tensor, choices: Tensor) -> Tensor:
        """What the choices of this level leave to the next one (n, C)."""
        return self._latentHead(latent) - self._dequantizer(choices)


class _DecoderLevel(nn.Module):
    def __init__(self, words: nn.Parameter, channel: int, last: bool) -> None:
        super().__init__()
        self._dequantizer = _Dictionary(words)
        self._dequantizationHead = nn.Linear(channel, channel)
        if not last:
            self._sideHead = nn.Linear(channel, channel)
        self._restoreHead = nn.Linear(channel, channel)

    def forward(self, choices: Tensor, below: Tensor | None) -> Tensor:
        """Cells (n, C) of the choices of this level and of what the next one decoded."""
        cells = self._dequantizationHead(self._dequantizer(choices))
        return self._restoreHead(cells if below is None else cells + self._sideHead(below))


@register("link", "codebook")
class Codebook(nn.Module):
    """The quantiser of a code space; keys ``_encoders.{i}.*``, ``_decoders.{i}.*``, the words under three names.

    In train mode, and with ``sample_in_eval`` always, words are drawn by their logits; else the nearest word is taken.

    Args:
        seg_num: groups the channels are cut into.
        dict_size: words of each group.
        r: levels.
        channel: channels of a cell.
        sample_in_eval: draw in eval mode too, as the published system does.

    Attributes:
        uniforms: where draws come from, (logits) to numbers in (0, 1) of their shape.
    """

    def __init__(self, seg_num: int, dict_size: int, r: int, channel: int = 64, sample_in_eval: bool = False) -> None:
        super().__init__()
        if seg_num < 1 or channel % seg_num or dict_size < 2 or r < 1:
            raise ConfigError(
                f"codebook: seg_num {seg_num} must divide the {channel} channels, dict_size {dict_size} be at least 2, "
                f"r {r} at least 1."
            )
        self.channel, self.seg_num, self.dict_size, self.r = channel, seg_num, dict_size, r
        self.sample_in_eval = sample_in_eval
        self.uniforms: Uniforms = torch.rand_like
        self.in_channels = self.out_channels = channel
        deviation = math.sqrt(2 * seg_num / (5 * channel))
        shape = (seg_num, dict_size, channel // seg_num)
        words = [nn.Parameter(torch.randn(shape) * deviation) for _ in range(r)]
        lasts = [level == r - 1 for level in range(r)]
        self._encoders = nn.ModuleList(_EncoderLevel(w, channel, last) for w, last in zip(words, lasts, strict=True))
        # the same levels once more, with their type
        self._levels = tuple(cast("_EncoderLevel", level) for level in self._encoders)
        self._decoders = nn.ModuleList(_DecoderLevel(w, channel, last) for w, last in zip(words, lasts, strict=True))

    @property
    def layers(self) -> int:
        """Words of one cell: levels times groups."""
        return self.r * self.seg_num

    def forward(self, cells: Tensor) -> Quantised:
        """Encode and decode cells (n, C)."""
        samples, logits = self._sample(cells)
        feature = self.get_feature(samples)
        loss = (feature - cells.detach()).square().mean()
        return Quantised(feature, [level.argmax(-1) for level in logits], logits, loss)

    def quantized(self, cells: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Per level the one-hot samples (n, groups, words) and the words without noise (n, groups), of cells (n, C)."""
        samples, logits = self._sample(cells)
        return samples, [level.argmax(-1) for level in logits]

    def get_feature(self, choices: list[Tensor]) -> Tensor:
        """Decode cells (n, C): per level words (n, groups) as integers, or weights of all words (n, groups, words)."""
        feature: Tensor | None = None
        for level, chosen in zip(reversed(self._decoders), reversed(choices), strict=True):
            feature = level(chosen, feature)
        assert feature is not None  # there is at least one level
        return feature

    def choose(self, cells: Tensor, draws: Draws | None) -> tuple[list[Tensor], list[Tensor]]:
        """Per level the samples, one-hot (n, groups, words), and their logits without noise, of cells (n, C).

        ``draws`` None takes the nearest words.
        """
        samples, logits = [], []
        for i, level in enumerate(self._levels):
            found, latent = level(cells)
            logits.append(found)
            samples.append(straight_through(found, -1, None if draws is None else partial(draws, i)))
            if i < self.r - 1:
                cells = level.rest(latent, samples[-1])
        return samples, logits

    def _sample(self, cells: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        draws = self.training or self.sample_in_eval
        return self.choose(cells, (lambda level, logits: self.uniforms(logits)) if draws else None)

    # --- maps ------------------------------------------------------------------------------------

    def encode_map(self, level: Tensor) -> Tensor:
        """Samples (N, layers, words, H, W) of a map (N, C, H, W), layers being groups within levels."""
        samples, _ = self._sample(_rows(level))
        words = torch.stack(samples, dim=1).flatten(1, 2)  # (cells, layers, words)
        return words.unflatten(0, (len(level), *level.shape[-2:])).permute(0, 3, 4, 1, 2)

    def nearest_map(self, level: Tensor) -> Tensor:
        """Words (N, layers, H, W) of a map (N, C, H, W), those without noise."""
        words = torch.stack(self.quantized(_rows(level))[1], dim=1).flatten(1)
        return words.unflatten(0, (len(level), *level.shape[-2:])).permute(0, 3, 1, 2)

    def decode_map(self, choices: Tensor) -> Tensor:
        """The map (N, C, H, W) of words (N, layers, H, W) as integers, or of weights (N, layers, words, H, W)."""
        if choices.is_floating_point():
            rows = choices.permute(0, 3, 4, 1, 2).flatten(0, 2)
        else:
            rows = choices.permute(0, 2, 3, 1).flatten(0, 2)
        cells = self.get_feature(list(rows.unflatten(1, (self.r, self.seg_num)).unbind(1)))
        return cells.view(len(choices), *choices.shape[-2:], -1).permute(0, 3, 1, 2).contiguous()


def _rows(level: Tensor) -> Tensor:
    """One row per cell, in the order N, H, W."""
    return level.permute(0, 2, 3, 1).flatten(0, 2)
