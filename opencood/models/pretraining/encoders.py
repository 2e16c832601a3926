"""Encoders that do not see everything, and say what they did not see (spec coopre.md 2, 3 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.config.pretrain import Pretraining
from opencood.models.backbones.sparse_volume import SparseBackbone3d
from opencood.models.encoders.base import Encoded, agents_in
from opencood.models.encoders.point_pillar import PillarFeatures, PillarScatter, PointPillar
from opencood.models.encoders.second import mean_points
from opencood.models.pretraining.masking import Masking, Seen, seen
from opencood.models.pretraining.targets import ContrastPairs, TargetGrid, Targets, both_views

TOKEN = "mask_token"


class MaskedEncoder(nn.Module):
    """An encoder behind a mask; its outputs are the map of what is seen, and the targets.

    Args:
        settings: of the pretraining.
        grid: of the targets.
        voxels: the encoder's voxels along y and x.
    """

    out_channels: int

    def __init__(self, settings: Pretraining, grid: TargetGrid, voxels: tuple[int, int]) -> None:
        super().__init__()
        self.settings = settings
        self.masking = Masking(settings.mask, grid.stride, voxels)
        contrast = settings.target == "contrast"
        self.targets = ContrastPairs(grid, settings.contrast_cells) if contrast else Targets(settings, grid)

    def encode(self, left: Seen, samples: int) -> Tensor:
        """What is left to a map (samples, C, H, W)."""
        raise NotImplementedError

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """The map (B, C, H, W), for a contrast (2B, C, H, W), and the targets (:class:`Targets`).

        Raises:
            DataError: the batch lacks what the settings need, or a voxel lies outside the grid.
        """
        samples = agents_in(inputs["voxel_coords"], agents)
        maps, voxels = samples, inputs
        contrast = isinstance(self.targets, ContrastPairs)
        if contrast:
            maps, voxels = 2 * samples, both_views(inputs, samples)
        hidden = self.masking(voxels)
        level = self.encode(seen(voxels, hidden, self.settings.masked_input == "drop"), maps)
        told: dict[str, Any] = (
            self.targets(voxels, inputs["view_transform"], samples)
            if contrast
            else self.targets(voxels, hidden, samples)
        )
        return Encoded(level, told)


class MaskedSecond(MaskedEncoder):
    """SECOND's sparse encoder, whose blind voxels have the feature ``backbone_3d.mask_token`` (1, features)."""

    def __init__(
        self,
        settings: Pretraining,
        grid: TargetGrid,
        backbone: SparseBackbone3d,
        features: int,
    ) -> None:
        super().__init__(settings, grid, (backbone.shape[1], backbone.shape[2]))
        if settings.masked_input == "token":
            backbone.register_parameter(TOKEN, nn.Parameter(torch.zeros(1, features)))
        self.backbone_3d = backbone
        self.out_channels = backbone.out_channels

    def encode(self, left: Seen, samples: int) -> Tensor:
        """What is left to a map (samples, C, H, W)."""
        means = mean_points(left.voxels)
        if self.settings.masked_input == "token":
            means = torch.where(left.blind[:, None], self.backbone_3d.get_parameter(TOKEN), means)
        return self.backbone_3d(means, left.voxels["voxel_coords"], samples)


class MaskedPillarFeatures(PillarFeatures):
    """The pillars' layers, fed with ``mask_token`` (1, decorated width) in all slots of a blind pillar."""

    def forward_masked(self, left: Seen) -> Tensor:
        """What is left to pillar vectors (M, C)."""
        points, coords = left.voxels["voxel_features"], left.voxels["voxel_coords"]
        if not len(points):
            return points.new_zeros(0, self.out_channels)
        values = self.decorate(points, coords, left.voxels["voxel_num_points"].clamp(min=1))
        if TOKEN in self._parameters:
            values = torch.where(left.blind[:, None, None], self.get_parameter(TOKEN), values)
        return self.reduce(values)


class MaskablePillars(PointPillar):
    """PointPillars with layers that can be fed with a token."""

    layers = MaskedPillarFeatures


class MaskedPillars(MaskedEncoder):
    """PointPillars whose pillars are hidden before their layers."""

    def __init__(self, settings: Pretraining, grid: TargetGrid, encoder: PointPillar) -> None:
        super().__init__(settings, grid, (encoder.scatter.rows, encoder.scatter.columns))
        self.pillar_vfe: MaskedPillarFeatures = encoder.pillar_vfe  # type: ignore[assignment]
        if settings.masked_input == "token":
            token = torch.zeros(1, self.pillar_vfe.decorated_width)
            self.pillar_vfe.register_parameter(TOKEN, nn.Parameter(token))
        self.scatter: PillarScatter = encoder.scatter
        self.out_channels = encoder.out_channels

    def encode(self, left: Seen, samples: int) -> Tensor:
        """What is left to a map (samples, C, rows, columns)."""
        return self.scatter(self.pillar_vfe.forward_masked(left), left.voxels["voxel_coords"], samples)
