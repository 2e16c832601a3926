"""The denoiser of GenComm's generator: a small U-Net told how noisy its input is (spec gencomm.md 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError

MESSAGE_CHANNELS = 2
GROUPS = 4
NOMINAL_SIDE = 128  # at level 0 whatever the map is: where attention goes depends on it
LONGEST_PERIOD = 10_000.0


def group_norm(channels: int) -> nn.GroupNorm:
    """The only normalisation of the network, which knows no batch."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class StepEmbedding(nn.Module):
    """The number of a step as a vector; keys ``dense.{0,1}``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.dense = nn.ModuleList([nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, 4 * channels)])

    def forward(self, step: Tensor) -> Tensor:
        """Steps (N,) to (N, 4 channels)."""
        half = self.channels // 2
        rates = torch.exp(torch.arange(half, device=step.device) * (-math.log(LONGEST_PERIOD) / (half - 1)))
        angles = step.to(rates)[:, None] * rates
        waves = F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, self.channels - 2 * half))
        return self.dense[1](F.silu(self.dense[0](waves)))


class BlockSettings(NamedTuple):
    """What all residual blocks of a network share."""

    step_channels: int
    dropout: float


class ResidualBlock(nn.Module):
    """x + convolutions of x and the step; keys ``norm1, conv1, temb_proj, norm2, conv2`` and ``nin_shortcut``."""

    def __init__(self, in_channels: int, out_channels: int, step_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.temb_proj = nn.Linear(step_channels, out_channels)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """(N, in, H, W) and the step's vector (N, D) to (N, out, H, W)."""
        y = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(step))[:, :, None, None]
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class CellAttention(nn.Module):
    """x + attention of every cell to all cells, one head; keys ``norm, q, k, v, proj_out``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = self.norm(x)
        query, key, value = (layer(y).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.proj_out(attended.transpose(1, 2).view_as(x))


class Halve(nn.Module):
    """Half the resolution: a convolution (key ``conv``) that sees one cell past the lower right, or an average."""

    def __init__(self, channels: int, with_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H / 2, W / 2)."""
        return F.avg_pool2d(x, 2) if self.conv is None else self.conv(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the resolution by the nearest cell, then a convolution (key ``conv``)."""

    def __init__(self, channels: int, with_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if with_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Blocks of one resolution, each perhaps followed by attention; keys ``block.{j}``, ``attn.{j}``."""

    def __init__(self, widths: Sequence[int], out_channels: int, shared: BlockSettings, attends: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(width, out_channels, *shared) for width in widths)
        self.attn = nn.ModuleList(CellAttention(out_channels) for _ in widths if attends)

    def _through(self, index: int, x: Tensor, step: Tensor) -> Tensor:
        x = self.block[index](x, step)
        return self.attn[index](x) if self.attn else x


class DownLevel(Level):
    """A level on the way down; key ``downsample`` besides, except at the coarsest."""

    def __init__(self, *level: Any, downsample: nn.Module | None) -> None:
        super().__init__(*level)
        self.downsample = downsample

    def forward(self, x: Tensor, step: Tensor) -> list[Tensor]:
        """(N, C, H, W) to every map on the way, the last of which goes on to the next level."""
        maps = [x]
        for index in range(len(self.block)):
            maps.append(self._through(index, maps[-1], step))
        if self.downsample is not None:
            maps.append(self.downsample(maps[-1]))
        return maps[1:]


class UpLevel(Level):
    """A level on the way up; key ``upsample`` besides, except at the finest."""

    def __init__(self, *level: Any, upsample: nn.Module | None) -> None:
        super().__init__(*level)
        self.upsample = upsample

    def forward(self, x: Tensor, step: Tensor, skips: list[Tensor]) -> Tensor:
        """(N, C, H, W) to the next level's map; every block takes the last of the maps from the way down."""
        for index in range(len(self.block)):
            x = self._through(index, torch.cat([x, skips.pop()], dim=1), step)
        return x if self.upsample is None else self.upsample(x)


class DenoisingUNet(nn.Module):
    """Predicts the clean feature from message and noisy feature.

    Args:
        in_channels: channels of the feature; the message has two more.
        out_ch: channels of the prediction; ch: width at full resolution; ch_mult: factor of it at every level.
        num_res_blocks: blocks per level on the way down, one more on the way up.
        attn_resolutions: nominal sides (128 at full resolution, halved per level) that attend.
        resamp_with_conv: whether changes of resolution are followed by a convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_ch: int,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        attn_resolutions: Sequence[int] = (),
        dropout: float = 0.0,
        resamp_with_conv: bool = True,
    ) -> None:
        super().__init__()
        widths = [ch * factor for factor in ch_mult]
        if ch < 4 or any(width % GROUPS for width in [ch, *widths]):
            raise ConfigError(f"gencomm.model: ch {ch} times ch_mult {list(ch_mult)} must be multiples of {GROUPS}.")
        self.reduction = 2 ** (len(widths) - 1)
        attends = [NOMINAL_SIDE // 2**i in attn_resolutions for i in range(len(widths))]
        shared = BlockSettings(4 * ch, dropout)
        self.temb = StepEmbedding(ch)
        self.conv_in = nn.Conv2d(in_channels + MESSAGE_CHANNELS, ch, 3, padding=1)
        self.down = nn.ModuleList()
        skips = [ch]
        for i, width in enumerate(widths):
            halve = Halve(width, resamp_with_conv) if i < len(widths) - 1 else None
            arriving = [skips[-1]] + [width] * (num_res_blocks - 1)
            self.down.append(DownLevel(arriving, width, shared, attends[i], downsample=halve))
            skips += [width] * (num_res_blocks + (halve is not None))
        self.mid = nn.ModuleDict({f"block_{k}": ResidualBlock(widths[-1], widths[-1], *shared) for k in (1, 2)})
        self.up = nn.ModuleList()
        below = widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            double = Double(width, resamp_with_conv) if i > 0 else None
            arriving = [before + skips.pop() for before in [below] + [width] * num_res_blocks]
            self.up.insert(0, UpLevel(arriving, width, shared, attends[i], upsample=double))
            below = width
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_ch, 3, padding=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """Message and feature side by side (N, 2 + C, H, W) and steps (N,) to the clean feature (N, out_ch, H, W).

        Raises:
            ConfigError: the map cannot be halved as often as there are levels below the first.
        """
        if x.shape[-2] % self.reduction or x.shape[-1] % self.reduction:
            raise ConfigError(
                f"gencomm: a map of {x.shape[-2]} x {x.shape[-1]} cells cannot be halved for {len(self.down)} levels; "
                f"its sides must be multiples of {self.reduction}."
            )
        embedded = self.temb(step)
        x = self.conv_in(x)
        skips = [x]
        for level in self.down:
            skips += level(x, embedded)
            x = skips[-1]
        for block in self.mid.values():
            x = block(x, embedded)
        for level in reversed(self.up):
            x = level(x, embedded, skips)
        return self.conv_out(F.silu(self.norm_out(x)))
