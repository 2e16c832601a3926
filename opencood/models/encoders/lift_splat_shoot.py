"""Lift-Splat-Shoot encoders: camera pictures to a bird's-eye-view map through a depth distribution per pixel.

Source: spec models.md 1.3 (Philion and Fidler, 2020). Keys ``camencode.*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError, DataError
from opencood.models.encoders.base import Encoded
from opencood.models.encoders.lift_splat_shoot_geometry import CALIBRATION, CellSum, DepthBins, Frustum
from opencood.registry import REGISTRY, register

COLOURS, DEPTH_CHANNEL = 3, 3
GRID_KEYS = ("xbound", "ybound", "zbound", "ddiscr", "mode")


@register("encoder", "lift_splat_shoot", ignores=("anchor_number",))
class LiftSplatShoot(nn.Module):
    """Camera features spread over depth and summed on the ground, height slices side by side.

    Args:
        grid_conf: ``xbound``, ``ybound``, ``zbound`` as [min, max, step] in metres, ``ddiscr`` [d_min, d_max, bins],
            ``mode`` ``LID`` or ``UD``.
        data_aug_conf: ``final_dim`` [h, w], the size of the pictures.
        img_downsample: pixels per feature cell, 8 or 16.
        img_features: channels of the map per height slice.
        camera_encoder: ``EfficientNet``, ``Resnet101`` or ``SmallResnet``.
        use_depth_gt: take the depth from the pictures' fourth channel instead of predicting it.
        depth_supervision: give ``depth_items`` for a depth loss where the pictures have a fourth channel.
        trunk_weights: file of ImageNet weights for the image trunk; None starts fresh.
        drop_connect: how often blocks of an EfficientNet are left out in training.

    Raises:
        ConfigError: a key is missing, or the sizes do not fit.
        CheckpointError: ``trunk_weights`` does not fit the trunk.
    """

    def __init__(
        self,
        grid_conf: Mapping[str, Any],
        data_aug_conf: Mapping[str, Any],
        img_downsample: int,
        img_features: int,
        camera_encoder: str,
        use_depth_gt: bool = False,
        depth_supervision: bool = False,
        trunk_weights: str | None = None,
        drop_connect: float = 0.2,
    ) -> None:
        super().__init__()
        _check(grid_conf, data_aug_conf, img_downsample)
        d_min, d_max, count = grid_conf["ddiscr"]
        self.stride, self.depth_supervision = img_downsample, depth_supervision
        self.camencode = REGISTRY.build(
            "camera_encoder",
            camera_encoder,
            where="encoder_args.camera_encoder",
            downsample=img_downsample,
            features=img_features,
            depths=None if use_depth_gt else int(count),
            drop_connect=drop_connect,
            trunk_weights=trunk_weights,
        )
        # Parts and not plain attributes, so that their buffers and mode follow the detector that takes them over.
        self.bins = DepthBins(d_min, d_max, int(count), grid_conf["mode"])
        self.frustum = Frustum(data_aug_conf["final_dim"], img_downsample, self.bins.depths())
        self.cell_sum = CellSum(grid_conf)
        self.slice_channels = img_features

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.slice_channels * self.cell_sum.cells[2]

    def geometry(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Where every cell of every picture is at every depth: (N, n_cam, D, h', w', 3) metres, agents' frames."""
        return self.frustum(inputs)

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """Map (N, Z * C, Y, X) of ``imgs`` (N, n_cam, 3 or 4, h, w) and the calibration of its cameras.

        ``depth_items`` is (logits (N * n_cam, D, h', w'), bins (N * n_cam, h', w') int64).

        Raises:
            DataError: a tensor is missing, or the pictures are not of ``data_aug_conf.final_dim``.
        """
        pictures = self._pictures(inputs)
        logits, features = self.camencode(pictures[:, :COLOURS])
        depth = self._depth(pictures)
        if logits is not None:
            weights = logits.softmax(dim=1)
        elif depth is not None:
            weights = self.bins(depth)
        else:
            raise DataError("use_depth_gt: the pictures have no depth channel; let the dataset load depth pictures.")
        level = self.merge_heights(self.cell_sum(self.geometry(inputs), weights, features))
        aux: dict[str, Any] = {}
        if self.depth_supervision and logits is not None and depth is not None:
            aux["depth_items"] = (logits, self.bins.targets(depth))
        return Encoded(level, aux)

    def merge_heights(self, level: Tensor) -> Tensor:
        """Height slices (N, Z, C, Y, X) side by side: (N, Z * C, Y, X)."""
        return level.flatten(1, 2)

    def _pictures(self, inputs: Mapping[str, Tensor]) -> Tensor:
        missing = [key for key in ("imgs", *CALIBRATION) if key not in inputs]
        if missing:
            raise DataError(f"camera input: missing {', '.join(missing)}; it holds {', '.join(map(str, inputs))}.")
        pictures = inputs["imgs"].flatten(0, 1)
        cells = tuple(size // self.stride for size in pictures.shape[-2:])
        if cells != tuple(self.frustum.points.shape[1:3]):
            raise DataError(
                f"camera input: pictures of {tuple(pictures.shape[-2:])} pixels give {cells} cells, but "
                f"data_aug_conf.final_dim stands for {tuple(self.frustum.points.shape[1:3])}."
            )
        return pictures

    def _depth(self, pictures: Tensor) -> Tensor | None:
        """Metres (n, h', w') in the middle of each feature cell; None when the pictures have no depth."""
        if pictures.shape[1] <= DEPTH_CHANNEL:
            return None
        middle = self.stride // 2
        return pictures[:, DEPTH_CHANNEL, middle :: self.stride, middle :: self.stride]


@register("encoder", "lift_splat_shoot_voxel", ignores=("anchor_number",))
class LiftSplatShootVoxel(LiftSplatShoot):
    """The same with the strongest of the height slices at every cell; an empty slice counts as 0."""

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.slice_channels

    def merge_heights(self, level: Tensor) -> Tensor:
        """Height slices (N, Z, C, Y, X) to their maximum (N, C, Y, X)."""
        return torch.amax(level, dim=1)


def _check(grid: Mapping[str, Any], pictures: Mapping[str, Any], stride: int) -> None:
    """Raise ConfigError for what no network can be built from."""
    missing = [f"grid_conf.{key}" for key in GRID_KEYS if key not in grid]
    missing += ["data_aug_conf.final_dim"] if "final_dim" not in pictures else []
    if missing:
        raise ConfigError(f"encoder_args: missing {', '.join(missing)}.")
    if any(size % stride for size in pictures["final_dim"]):
        raise ConfigError(
            f"encoder_args.data_aug_conf.final_dim: {pictures['final_dim']} is not a multiple of img_downsample "
            f"({stride}) in height and width."
        )
