"""Translators: from the features of one modality to the code logits, or features, of another (spec codealign.md 3).

Each takes a map (N, C, H, W) and the name of the target modality. A conditioned one embeds the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError, nearest
from opencood.models.backbones.aligner import ConvNeXtBlock
from opencood.registry import REGISTRY, Entry, register

EMBEDDING_DEVIATION = 0.02


class Translator(nn.Module):
    """A translator chosen by name, under the published prefix ``translator``."""

    def __init__(self, core_method: str, args: Mapping[str, Any]) -> None:
        super().__init__()
        self.translator = build_translator(core_method, args)

    def forward(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.translator(x, target)


class Adapter(nn.Module):
    """The same under the older prefix ``adapter``."""

    def __init__(self, core_method: str, args: Mapping[str, Any]) -> None:
        super().__init__()
        self.adapter = build_translator(core_method, args)

    def forward(self, x: Tensor, target: str = "") -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.adapter(x, target)


@dataclass(frozen=True)
class TranslatorArgs:
    """What a translator is made of. All kinds read the same published section, each its part of it.

    Attributes:
        in_channels, out_channels: of the maps.
        in_cav_lidar_range, out_cav_lidar_range: x0, y0, z0, x1, y1, z1 in metres.
        in_feature_shape, out_feature_shape: cells (H, W) that cover these ranges.
        num_of_blocks, dim, kernel_size: of the ConvNeXt blocks.
        early_scale: factor of the input.
        late_upsample: change the resolution of the result instead of the input's.
        deform: deformable convolutions, which are not supported.
        embedding_dim, modality_map: width of a target's embedding, and the targets.
        mlp_hidden_dim: hidden width of the heads; hidden_mlp_dim: of the network over the embedding.
        film_args: {emb_dim, modality_map, use_tanh (true), mlp_hidden_mult (4)}.
    """

    in_channels: int
    out_channels: int
    in_cav_lidar_range: Sequence[float]
    out_cav_lidar_range: Sequence[float]
    in_feature_shape: Sequence[int]
    out_feature_shape: Sequence[int]
    num_of_blocks: int
    dim: int = 64
    kernel_size: int = 7
    early_scale: float = 1.0
    late_upsample: bool = False
    deform: bool = False
    embedding_dim: int = 64
    modality_map: Sequence[str] = ()
    mlp_hidden_dim: int = 64
    hidden_mlp_dim: int = 128
    film_args: Mapping[str, Any] | None = None


def build_translator(core_method: str, args: Mapping[str, Any]) -> nn.Module:
    """A translator from its published arguments, of which ``submodule_args`` are a level deeper.

    Raises:
        ConfigError: unknown name, or an argument is missing or wrong.
    """
    where = "model.args.translator.args"
    flat = {**args, **(args.get("submodule_args") or {})}
    flat.pop("submodule_args", None)
    target = REGISTRY.get("translator", core_method, "model.args.translator.core_method").target
    known = REGISTRY.check_arguments(Entry("translator", core_method, TranslatorArgs), flat, where)
    if known.get("deform"):
        raise ConfigError(f"{where}.deform: deformable convolutions are not supported; set it to false.")
    return target(TranslatorArgs(**known))


class Resize(nn.Module):
    """Bilinear change from the cells per metre of the source to those of the target."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__()
        source = _cells_per_metre(args.in_cav_lidar_range, args.in_feature_shape)
        target = _cells_per_metre(args.out_cav_lidar_range, args.out_feature_shape)
        self.factors = (target[0] / source[0], target[1] / source[1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, floor(H * factor), floor(W * factor)); positions follow the factor itself."""
        if self.factors == (1.0, 1.0):
            return x
        return F.interpolate(x, scale_factor=self.factors, mode="bilinear", align_corners=False)


class Blocks(nn.Module):
    """ConvNeXt blocks one after the other; keys ``model.{i}.*``."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__()
        self.model = nn.Sequential(*blocks(args))

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return self.model(x)


def blocks(args: TranslatorArgs) -> list[ConvNeXtBlock]:
    """The ConvNeXt blocks a translator asks for."""
    return [ConvNeXtBlock(args.dim, args.kernel_size) for _ in range(args.num_of_blocks)]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Targets:
    """Rows of an embedding table by the name of the target modality."""

    def __init__(self, modality_map: Sequence[str]) -> None:
        self.names = list(modality_map)

    def row(self, name: str) -> int:
        """Which row.

        Raises:
            ConfigError: the translator was not made for this target.
        """
        if name not in self.names:
            raise ConfigError(
                f"model.args.translator: made for {', '.join(self.names)}, not for '{name}'.{nearest(name, self.names)}"
            )
        return self.names.index(name)

    def table(self, *shape: int) -> nn.Parameter:
        """A table with one entry of ``shape`` for every target."""
        return nn.Parameter(torch.randn(len(self.names), *shape) * EMBEDDING_DEVIATION)


def two_layers(width: int, hidden: int, out: int) -> nn.Sequential:
    """1x1 convolution, ReLU, 1x1 convolution; keys 0 and 2."""
    return nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, out, 1))


class Resized(nn.Module):
    """A translator that scales its input and changes its resolution, first or last."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__()
        self.in_channels, self.out_channels = args.in_channels, args.out_channels
        self.early_scale, self.late_upsample = args.early_scale, args.late_upsample
        self.resize = Resize(args)
        self.channel_convert1 = nn.Conv2d(args.in_channels, args.dim, 1)

    def forward(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        x = x * self.early_scale
        if not self.late_upsample:
            x = self.resize(x)
        y = self.translate(x, target)
        return self.resize(y) if self.late_upsample else y

    def translate(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        raise NotImplementedError


@register("translator", "convnext", "adapterconvnext")
class ConvNeXtTranslator(Resized):
    """ConvNeXt blocks between two 1x1 convolutions, whatever the target."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        self.conv = Blocks(args)
        self.channel_convert2 = nn.Conv2d(args.dim, args.out_channels, 1)
        # lies in published checkpoints, is not run
        self.smoothing = nn.Conv2d(args.out_channels, args.out_channels, 3, padding=1)

    def translate(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        return self.channel_convert2(self.conv(self.channel_convert1(x)))


@register("translator", "convnext_with_modal_heads")
class ModalHeadsTranslator(Resized):
    """ConvNeXt blocks, and a small head for every target."""

    def __init__(self, args: TranslatorArgs) -> None:
        super().__init__(args)
        self.targets = Targets(args.modality_map)
        self.conv = Blocks(args)
        self.smoothing = nn.Conv2d(args.dim, args.dim, 3, padding=1)
        self.modal_heads = nn.ModuleList(
            two_layers(args.dim, args.mlp_hidden_dim, args.out_channels) for _ in self.targets.names
        )

    def translate(self, x: Tensor, target: str) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        head = self.modal_heads[self.targets.row(target)]
        return head(self.smoothing(self.conv(self.channel_convert1(x))))


def _cells_per_metre(limits: Sequence[float], shape: Sequence[int]) -> tuple[float, float]:
    """Along (y, x)."""
    return shape[0] / (limits[4] - limits[1]), shape[1] / (limits[3] - limits[0])
