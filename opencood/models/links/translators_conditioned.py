"""Translators that embed the name of the target: by concatenation, gates, or feature-wise modulation.

Source: spec codealign.md 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.links.translators import (
    Blocks,
    ChannelNorm,
    Resize,
    Resized,
    Targets,
    TranslatorArgs,
    blocks,
    two_layers,
)
from opencood.registry import register


class Conditioned(nn.Module):
    """A translator with an embedding per target, at one resolution.

    Raises:
        ConfigError: source and target differ in cells per metre.
    """

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__()
        if Resize(args).factors != (1.0, 1.0):
            raise ConfigError(
                "model.args.translator: translators with an embedding do not change the resolution; use convnext, "
                "convnext_film or convnext_with_modal_heads for other ranges or shapes."
            )
        self.in_channels, self.out_channels = args.in_channels, args.out_channels
        self.targets = Targets(args.modality_map)
        self.emb_table = self.targets.table(args.embedding_dim)

    def embedding(self, target: str) -> Tensor:
        """(embedding_dim,) of a target."""
        return self.emb_table[self.targets.row(target)]


def beside(x: Tensor, embedding: Tensor) -> Tensor:
    """The map (N, C, H, W) with the embedding (D,) at every cell, (N, C + D, H, W)."""
    return torch.cat([x, embedding[:, None, None].expand(len(x), -1, *x.shape[-2:])], dim=1)


class Gate(nn.Module):
    """A factor between 0 and 1 per channel from an embedding; keys ``gate_net.{0,2}``."""

    def __init__(self, embedding_dim: int, dim: int) -> None:
        super().__init__()
        self.gate_net = nn.Sequential(nn.Linear(embedding_dim, dim // 4), nn.ReLU(), nn.Linear(dim // 4, dim))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return x * self.gate_net(embedding).sigmoid()[:, None, None]


@register("translator", "convnext_emb_cat")
class ConcatenatedTranslator(Conditioned):
    """The embedding goes in beside the map."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        self.channel_convert1 = nn.Conv2d(args.in_channels + args.embedding_dim, args.dim, 1)
        self.layer_norm = ChannelNorm(args.dim)
        self.conv = Blocks(args)
        self.channel_convert2 = nn.Conv2d(args.dim, args.out_channels, 1)
        self.smoothing = nn.Conv2d(args.out_channels, args.out_channels, 3, padding=1)

    def forward(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = self.channel_convert1(beside(x, self.embedding(target)))
        return self.smoothing(self.channel_convert2(self.conv(self.layer_norm(x))))


@register("translator", "convnext_emb_mlp_cat")
class DeepConcatenatedTranslator(Conditioned):
    """A small network over the embedding, whose result goes in beside the map."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        self.emb_mlp = nn.Sequential(
            nn.Linear(args.embedding_dim, args.hidden_mlp_dim),
            nn.ReLU(),
            nn.Linear(args.hidden_mlp_dim, args.embedding_dim),
        )
        self.channel_convert = nn.Conv2d(args.in_channels + args.embedding_dim, args.dim, 1)
        self.layer_norm = ChannelNorm(args.dim)
        self.conv = Blocks(args)
        self.smoothing = nn.Conv2d(args.dim, args.dim, 3, padding=1)
        self.channel_mlp = two_layers(args.dim, args.dim, args.out_channels)

    def forward(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = self.channel_convert(beside(x, self.emb_mlp(self.embedding(target))))
        return self.channel_mlp(self.smoothing(self.conv(self.layer_norm(x))))


@register("translator", "convnext_emb_gate")
class GatedTranslator(Conditioned):
    """One gate by the embedding before the blocks."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        self.channel_convert1 = nn.Conv2d(args.in_channels, args.dim, 1)
        self.layer_norm = ChannelNorm(args.dim)
        self.conv = Blocks(args)
        self.channel_convert2 = nn.Conv2d(args.dim, args.out_channels, 1)
        self.smoothing = nn.Conv2d(args.out_channels, args.out_channels, 3, padding=1)
        self.gated_modulation = Gate(args.embedding_dim, args.dim)

    def forward(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = self.gated_modulation(self.channel_convert1(x), self.embedding(target))
        return self.smoothing(self.channel_convert2(self.conv(self.layer_norm(x))))


class GatedBlocks(nn.Module):
    """Before every ConvNeXt block a gate by the embedding."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__()
        self.model_blocks = nn.ModuleList(blocks(args))
        self.gated_modulations = nn.ModuleList(Gate(args.embedding_dim, args.dim) for _ in self.model_blocks)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        for gate, block in zip(self.gated_modulations, self.model_blocks, strict=True):
            x = block(gate(x, embedding))
        return x


@register("translator", "convnext_emb_gate_multilayer")
class DeepGatedTranslator(Conditioned):
    """A gate by the embedding before every block."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        self.channel_convert1 = nn.Conv2d(args.in_channels, args.dim, 1)
        self.layer_norm = ChannelNorm(args.dim)
        self.conv = GatedBlocks(args)
        self.smoothing = nn.Conv2d(args.dim, args.dim, 3, padding=1)
        self.mlp = two_layers(args.dim, args.mlp_hidden_dim, args.out_channels)

    def forward(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = self.conv(self.layer_norm(self.channel_convert1(x)), self.embedding(target))
        return self.mlp(self.smoothing(x))


class FilmHead(nn.Module):
    """Gain and offset of every channel from an embedding; keys ``fc1``, ``fc2``. Starts without offset."""

    def __init__(self, emb_dim: int, channels: int, hidden: int, use_tanh: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(emb_dim, hidden)
        self.fc2 = nn.Linear(hidden, 2 * channels)
        self.use_tanh = use_tanh
        nn.init.zeros_(self.fc2.weight)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, C at most the channels of the head."""
        values = self.fc2(F.gelu(self.fc1(embedding)))
        gain, offset = (values.tanh() if self.use_tanh else values).chunk(2)
        channels = x.shape[1]
        return x * gain[:channels, None, None] + offset[:channels, None, None]


class FilmBlocks(nn.Module):
    """ConvNeXt blocks that are modulated one by one; keys ``blocks.{i}.*``."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks(args))

    def forward(self, x: Tensor, heads: Sequence[nn.Module], embeddings: Sequence[Tensor]) -> Tensor:
        """(N, dim, H, W) to the same shape, each block followed by its modulation."""
        for block, head, embedding in zip(self.blocks, heads, embeddings, strict=True):
            x = head(block(x), embedding)
        return x


@register("translator", "convnext_film", "adapterconvnextfilm")
class FilmTranslator(Resized):
    """Feature-wise modulation by an embedding of every site: after the first convolution, every block and at the end.

    Raises:
        ConfigError: ``film_args`` is missing.
    """

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        film = args.film_args
        if not film or not {"emb_dim", "modality_map"} <= set(film):
            raise ConfigError("model.args.translator.args.submodule_args.film_args: needs emb_dim and modality_map.")
        sites, dim = args.num_of_blocks + 2, film["emb_dim"]
        self.targets = Targets(film["modality_map"])
        self.emb_table = self.targets.table(sites, dim)
        self.conv = FilmBlocks(args)
        self.channel_convert2 = nn.Conv2d(args.dim, args.out_channels, 1)
        self.smoothing = nn.Conv2d(args.out_channels, args.out_channels, 3, padding=1)
        widest, hidden = max(args.dim, args.out_channels), dim * film.get("mlp_hidden_mult", 4)
        self.film_heads = nn.ModuleList(FilmHead(dim, widest, hidden, film.get("use_tanh", True)) for _ in range(sites))

    def translate(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        embeddings = list(self.emb_table[self.targets.row(target)])
        heads = list(self.film_heads)
        x = heads[0](self.channel_convert1(x), embeddings[0])
        x = self.conv(x, heads[1:-1], embeddings[1:-1])
        return heads[-1](self.smoothing(self.channel_convert2(x)), embeddings[-1])
