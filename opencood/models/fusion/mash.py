"""MASH: neighbours' maps found by matching cells instead of by poses (Glaser et al., 2021; homogeneous.md 3.10)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.scene import SceneFeatures

# Widths of the encoders and of the two stages of the smoothing net.
HIDDEN = 512
STAGES = (256, 128)
LEAST = 1e-12  # of a squared distance: its root has no slope at 0


class ConvUnit(nn.Module):
    """Convolution, batch norm, ReLU; keys ``cbr_unit.{0,1}``."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)
        self.cbr_unit = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H, W)."""
        return self.cbr_unit(x)


class CellEncoder(nn.Module):
    """1x1 layers of the given widths; keys ``model.{s}``."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(ConvUnit(a, b, 1) for a, b in zip(widths, widths[1:], strict=False)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, last width, H, W)."""
        return self.model(x)


class ThreeConvs(nn.Module):
    """Three 3x3 layers; keys ``conv{1,2,3}``."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (ConvUnit(a, b, 3) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, last width, H, W)."""
        return self.conv3(self.conv2(self.conv1(x)))


class Smoothing(nn.Module):
    """A SegNet of two stages, whose way up puts values back where the maxima were."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        wide, narrow = STAGES
        self.d32to16 = ThreeConvs(planes, wide, wide, wide)
        self.d16to08 = ThreeConvs(wide, narrow, narrow, narrow)
        self.d08to16 = ThreeConvs(narrow, narrow, narrow, wide)
        self.d16to32 = ThreeConvs(wide, wide, wide, planes)

    def forward(self, x: Tensor) -> Tensor:
        """(P, planes, H, W) to the same shape."""
        full = self.d32to16(x)
        half, places = F.max_pool2d(full, 2, return_indices=True)
        middle = self.d16to08(half)
        quarter, places_of_middle = F.max_pool2d(middle, 2, return_indices=True)
        half = self.d08to16(_unpooled(quarter, places_of_middle, middle))
        return self.d16to32(_unpooled(half, places, full))


class MashFusion(nn.Module):
    """The maximum of the ego's map and its neighbours', each cell fetched from where it matches best.

    Keys at the top: ``query_encoder``, ``key_encoder``, ``queryKeySim``, ``smoothing_net``.

    Args:
        feature_dim: channels of the map; query_dim, key_dim: of the descriptors.
        H, W: cells of the map, on which the width of the smoothing net depends.
        downsample_rate: not needed.
        keeps_matches: fetch the cells that have a match; published code keeps those without one.
        halves: compute distances in half precision, as published.
    """

    def __init__(
        self,
        feature_dim: int,
        query_dim: int,
        key_dim: int,
        H: int,
        W: int,
        downsample_rate: float = 1,
        keeps_matches: bool = True,
        halves: bool = False,
    ) -> None:
        super().__init__()
        self.size = (H, W)
        self.keeps_matches = keeps_matches
        self.halves = halves
        self.query_encoder = CellEncoder(feature_dim, HIDDEN, HIDDEN, query_dim)
        self.key_encoder = CellEncoder(feature_dim, HIDDEN, key_dim)
        self.queryKeySim = nn.Conv2d(query_dim, key_dim, 1)
        self.smoothing_net = Smoothing(H * W + 1)

    def forward(self, scene: SceneFeatures) -> tuple[Tensor, dict[str, Any]]:
        """Maps (N, C, H, W) to the egos' (B, C, H, W) and ``corr_vol`` (N - B, H * W + 1, H, W), None without pairs.

        Raises:
            ConfigError: the map is not of the size the network was built for.
        """
        maps = scene.map
        if maps.shape[-2:] != self.size:
            found = " x ".join(map(str, maps.shape[-2:]))
            raise ConfigError(f"mash: H, W are {self.size}, but the map has {found} cells; set them to its size.")
        of_scene, slot = scene.places
        neighbours = (slot > 0).nonzero()[:, 0].to(maps.device)
        if not len(neighbours):
            return maps, {"corr_vol": None}
        egos = torch.tensor(scene.egos, device=maps.device)[of_scene.to(maps.device)[neighbours]]
        query = self.queryKeySim(self.query_encoder(maps[egos]))
        volume = correspondences(query, self.key_encoder(maps[neighbours]), self.halves)
        volume = self.smoothing_net(volume.softmax(dim=1))
        fetched = maps.index_copy(0, neighbours, self._fetched(maps[neighbours], volume))
        return scene.pad(fetched, fill=float("-inf")).amax(dim=1), {"corr_vol": volume}

    def _fetched(self, maps: Tensor, volume: Tensor) -> Tensor:
        """Neighbours' cells (P, C, H, W) at the ego's cells that want them, weighted by how well they match."""
        height, width = self.size
        value, plane = volume.max(dim=1)
        grid = torch.stack([2 * (plane % width) / width - 1, 2 * (plane // width) / height - 1], dim=-1)
        unmatched = plane == height * width
        kept = ~unmatched if self.keeps_matches else unmatched
        return F.grid_sample(maps, grid.to(maps), align_corners=False) * (value * kept)[:, None]


def _unpooled(x: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Values back where the maxima were, in a map of the size of another."""
    return F.max_unpool2d(x, places, [2, 2], output_size=list(like.shape[-2:]))


def correspondences(query: Tensor, key: Tensor, halves: bool = False) -> Tensor:
    """(P, H * W + 1, H, W): minus the distance of every cell of the query to every cell of the key, and to nothing.

    Args:
        query, key: descriptors (P, C, H, W).
        halves: round every step to half precision, as published.
    """

    def rounded(x: Tensor) -> Tensor:
        return x.half().float() if halves else x

    q, k = rounded(query.flatten(2)), rounded(key.flatten(2))
    product = rounded(torch.einsum("pcm,pct->pmt", k, q))
    squares = [rounded(rounded(x.norm(dim=1)).square()) for x in (k, q)]
    squared = rounded(rounded(squares[0][:, :, None] + squares[1][:, None]) - 2 * product)
    to_nothing = query.flatten(2).norm(dim=1)[:, None]
    volume = torch.cat([rounded(squared.clamp(min=LEAST).sqrt()), to_nothing], dim=1)
    return -volume.unflatten(2, query.shape[-2:])
