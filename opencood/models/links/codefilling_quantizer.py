"""CodeFilling's codebook: every cell as a few words from small dictionaries (spec gencomm.md 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.links.noise import Noise

LEVELS = 3
LEAST_TEMPERATURE = 1e-6


class LowerBound(nn.Module):
    """max(x, bound); key ``bound``."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound]))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return torch.maximum(x, self.bound)


class Words(nn.Module):
    """From words to features; key ``_codebook`` (groups, words, width), shared with the part that chooses words."""

    def __init__(self, codebook: nn.Parameter) -> None:
        super().__init__()
        self._codebook = codebook

    def forward(self, sample: Tensor) -> Tensor:
        """One-hot choices (R, groups, words) to features (R, C)."""
        return torch.einsum("rgk,gkd->rgd", sample, self._codebook).flatten(1)


class WordChoice(nn.Module):
    """From features to words; keys ``_codebook, _temperature, _bound.bound``."""

    def __init__(self, codebook: nn.Parameter) -> None:
        super().__init__()
        self._codebook = codebook
        self._temperature = nn.Parameter(torch.ones(codebook.shape[0], 1))
        self._bound = LowerBound(LEAST_TEMPERATURE)

    def forward(self, x: Tensor) -> Tensor:
        """Features (R, C) to logits (R, groups, words): the nearer a word, the larger."""
        groups, words, _ = self._codebook.shape
        parts = x.unflatten(1, (groups, -1))
        distance = (
            (parts**2).sum(-1, keepdim=True)
            + (self._codebook**2).sum(-1)
            - 2 * torch.einsum("rgd,gkd->rgk", parts, self._codebook)
        )
        return -distance / math.sqrt(words) * self._bound(self._temperature)


class LevelEncoder(nn.Module):
    """One level at the sender; what its words leave over goes to the next level."""

    def __init__(self, channels: int, codebook: nn.Parameter, last: bool) -> None:
        super().__init__()
        self._quantizer = WordChoice(codebook)
        self._dequantizer = Words(codebook)
        self._latentStageEncoder = nn.Linear(channels, channels)
        self._quantizationHead = nn.Linear(channels, channels)
        self._latentHead = None if last else nn.Linear(channels, channels)

    def forward(self, x: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows (R, C) to the choice of words (R, groups, words), their logits, and what they leave over (R, C).

        ``uniform`` (R, groups, words) are the draws behind the choice; None takes the likeliest words. The last level
        leaves nothing over.
        """
        latent = self._latentStageEncoder(x)
        logits = self._quantizer(self._quantizationHead(latent))
        sample = _one_hot(logits) if uniform is None else _drawn(logits, uniform)
        if self._latentHead is None:
            return sample, logits, None
        return sample, logits, self._latentHead(latent) - self._dequantizer(sample)


class LevelDecoder(nn.Module):
    """One level at the receiver; keys ``_dequantizer, _dequantizationHead, _sideHead, _restoreHead``."""

    def __init__(self, channels: int, codebook: nn.Parameter, last: bool) -> None:
        super().__init__()
        self._dequantizer = Words(codebook)
        self._dequantizationHead = nn.Linear(channels, channels)
        self._sideHead = None if last else nn.Linear(channels, channels)
        self._restoreHead = nn.Linear(channels, channels)

    def forward(self, sample: Tensor, deeper: Tensor | None) -> Tensor:
        """A choice of words (R, groups, words) and what the deeper level restored, to rows (R, C)."""
        restored = self._dequantizationHead(self._dequantizer(sample))
        if self._sideHead is not None and deeper is not None:
            restored = restored + self._sideHead(deeper)
        return self._restoreHead(restored)


class CodeFillingQuantizer(nn.Module):
    """Three residual levels of ``seg_num`` dictionaries with ``dict_size`` words each; keys ``_encoders, _decoders``.

    Args:
        seg_num: groups of channels, each with its own dictionary.
        dict_size: words of a dictionary.
        channel: channels of the map, a multiple of ``seg_num``.
    """

    def __init__(self, seg_num: int, dict_size: int, channel: int = 128) -> None:
        super().__init__()
        if channel % seg_num:
            raise ConfigError(f"model.args.codebook: channel {channel} is no multiple of seg_num {seg_num}.")
        self.groups, self.words, self.channels = seg_num, dict_size, channel
        spread = math.sqrt(2 / (5 * channel / seg_num))
        shape = (seg_num, dict_size, channel // seg_num)
        books = [nn.Parameter(torch.randn(shape) * spread) for _ in range(LEVELS)]
        last = [level == LEVELS - 1 for level in range(LEVELS)]
        self._encoders = nn.ModuleList(map(LevelEncoder, [channel] * LEVELS, books, last))
        self._decoders = nn.ModuleList(map(LevelDecoder, [channel] * LEVELS, books, last))

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Choose words for rows (R, C).

        Args:
            uniforms: numbers in [0, 1) (R, groups, words) per level: words are drawn by Gumbel noise and gradients pass
                straight through the choice; None takes the likeliest words.

        Returns:
            the restored rows (R, C); per level the codes (R, groups) that were chosen, and the logits without noise.
        """
        samples, logits = [], []
        rest: Tensor | None = x
        for level, encoder in enumerate(self._encoders):
            sample, scores, rest = encoder(rest, None if uniforms is None else uniforms[level])
            samples.append(sample)
            logits.append(scores)
        return self._restored(samples), [sample.argmax(dim=-1) for sample in samples], logits

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (R, levels, groups) to the restored rows (R, C), as :meth:`forward` restored them."""
        samples = F.one_hot(codes, self.words).to(next(self.parameters()))
        return self._restored(samples.unbind(dim=1))

    def _restored(self, samples: Sequence[Tensor]) -> Tensor:
        restored: Tensor | None = None
        for decoder, sample in zip(reversed(self._decoders), reversed(samples), strict=True):
            restored = decoder(sample, restored)
        assert restored is not None
        return restored


class WordDraws(nn.Module):
    """The uniform numbers behind the choice of words; without parameters, so that it knows the mode of the detector.

    Args:
        in_test: whether words are drawn in evaluation too (published), the same way in every frame.
    """

    def __init__(self, in_test: bool, seed: int = 0) -> None:
        super().__init__()
        self.in_test = in_test
        self.uniform = Noise(torch.rand, seed)

    def forward(self, agents: int, shape: tuple[int, int, int], like: Tensor) -> list[Tensor] | None:
        """Per level (agents * cells, groups, words), or None where the likeliest words are taken."""
        if not (self.training or self.in_test):
            return None
        # a sender does not know its place in a scene, so all agents draw alike in evaluation
        slots = torch.zeros(agents, dtype=torch.long)
        wanted = like.new_empty(()).expand(agents, *shape)
        return [self.uniform(slots, level, wanted).flatten(0, 1) for level in range(LEVELS)]


def _one_hot(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits)


def _drawn(logits: Tensor, uniform: Tensor) -> Tensor:
    """A word drawn with Gumbel noise as one-hot vector, whose gradient is that of the soft choice."""
    eps = torch.finfo(uniform.dtype).eps
    gumbel = -torch.log(-torch.log(uniform.clamp(eps, 1 - eps)))
    soft = (logits + gumbel).softmax(dim=-1)
    return _one_hot(soft) - soft.detach() + soft
