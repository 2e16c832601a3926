"""Robust V2VNet: poses are corrected from maps, messages weighted by trust (Vadivelu et al., 2020).

Source: spec homogeneous.md 3.11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.geometry.warp import normalize_pairwise, warp
from opencood.models.fusion.robust_poses import (
    consistent_poses,
    planar_inverse,
    planar_matrix,
    planar_pose,
    relative,
)
from opencood.models.fusion.v2vnet import Pairs, V2VNetFusion, hearing_pairs
from opencood.models.scene import SceneFeatures

SLOPE = 0.01
ALPHA, FIXED_ALPHA, LEAST = 0.15, 0.35, 1e-4
GAIN = 0.1
# Deviations of the pose error in training, in metres and degrees.
STRONG, WEAK = (0.4, 4.0), (0.01, 0.1)
STAGES = (0, 1, 2)
SMALLEST = 32


class PoseRegression(nn.Module):
    """From two maps side by side to how their relative pose is to be corrected: x, y in metres, yaw in degrees.

    Keys ``model.{0,3,6,9,14,16,18}``; maps of at least 32 x 32 cells.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        convs = [_block(2 * channels, hidden), _block(hidden, hidden), _block(hidden, hidden)]
        last = _block(hidden, hidden, stride=2)
        self.model = nn.Sequential(
            *(layer for block in (*convs, last) for layer in block),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 3),
        )

    def forward(self, pair: Tensor) -> Tensor:
        """(P, 2C, H, W) to (P, 3)."""
        return self.model(pair)


class Trust(nn.Module):
    """From two maps side by side to how well they fit, in [0, 1]; keys ``model.{0,3,8}``."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *_block(2 * channels, hidden),
            *_block(hidden, hidden),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(hidden, 1),
            nn.Sigmoid(),
        )

    def forward(self, pair: Tensor) -> Tensor:
        """(P, 2C, H, W) to (P,)."""
        return self.model(pair)[:, 0]


class PoseNet(nn.Module):
    """Key ``pose_regression``."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.pose_regression = PoseRegression(channels, hidden)


class TrustNet(nn.Module):
    """Keys ``attention_net`` and, where it is learned, ``alpha``: the trust an agent has in nobody."""

    def __init__(self, channels: int, hidden: int, learnable_alpha: bool) -> None:
        super().__init__()
        self.attention_net = Trust(channels, hidden)
        self.alpha = nn.Parameter(torch.full((1,), ALPHA)) if learnable_alpha else FIXED_ALPHA


class WeightedV2VNet(V2VNetFusion):
    """V2VNet whose receivers sum messages by given weights."""

    def pairs(self, scene: SceneFeatures, like: Tensor) -> Pairs:
        """The pairs with the trust of ``scene.aux``."""
        return super().pairs(scene, like)._replace(weights=scene.aux["_trust"])


class RobustV2VNet(nn.Module):
    """Keys at the top: ``pose_reg_net``, ``attention_net``, ``fusion_net``.

    Args:
        v2vfusion: arguments of ``v2vnet``; ``agg_operator: weight`` is what is done here.
        robust: ``feature_dim``, ``hidden_dim``, ``downsample_rate``, ``discrete_ratio`` (metres of a voxel),
            ``learnable_alpha``.
        max_cav: slots L of the published pairwise outputs.
        stage: what is trained: 0 trust and fusion with wrong poses, 1 the correction alone, 2 all.
        sees_overlap: weigh pairs by how much of each other they see; published code sees the same of all.
    """

    def __init__(
        self,
        v2vfusion: Mapping[str, Any],
        robust: Mapping[str, Any],
        max_cav: int,
        stage: int = 2,
        sees_overlap: bool = True,
    ) -> None:
        super().__init__()
        if stage not in STAGES:
            raise ConfigError(f"model.args.stage: {stage} is none of 0, 1, 2.")
        channels, hidden = robust["feature_dim"], robust["hidden_dim"]
        self.stage, self.slots, self.sees_overlap = stage, max_cav, sees_overlap
        self.cell = robust["downsample_rate"] * robust["discrete_ratio"]
        self.pose_reg_net = PoseNet(channels, hidden)
        self.attention_net = TrustNet(channels, hidden, robust.get("learnable_alpha", True))
        self.fusion_net = WeightedV2VNet(**v2vfusion)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_normal_(module.weight, gain=GAIN)

    def forward(self, scene: SceneFeatures) -> tuple[Tensor, dict[str, Any]]:
        """Maps (N, C, H, W) with poses to the egos' (B, C, H, W), and the published extra outputs.

        In evaluation poses are taken as they are; in training they get an error first.

        Raises:
            ConfigError: the map is too small for the correction.
        """
        pose = scene.pose
        if pose is None:
            raise ValueError("this scene does not tell the poses of its agents (lidar_pose)")
        height, width = scene.map.shape[-2:]
        if min(height, width) < SMALLEST:
            raise ConfigError(
                f"robust: the correction of poses needs maps of {SMALLEST} cells at least, not {height} x {width}; "
                "choose a larger lidar_range, smaller voxels or smaller strides."
            )
        scene = replace(scene, extent=(height * self.cell, width * self.cell))
        clean = pose[:, [0, 1, 4]].to(scene.map.dtype)
        if not self.training:
            return self._corrected(scene, clean)
        noisy, choice = self._disturbed(clean)
        outputs: dict[str, Any] = {"stage": self.stage}
        if self.stage == 0:
            poses = self._matrices(scene, noisy)
            fused, more = self._fused(replace(scene, pairwise=relative(poses)))
            return fused, outputs | more | {"choice": self._slots(scene.pad(choice))}
        truth = relative(self._matrices(scene, clean)) @ planar_inverse(relative(self._matrices(scene, noisy)))
        outputs["pose_target"] = self._slots(planar_pose(truth), pairs=True)
        if self.stage == 1:
            corrections = self._corrections(scene, relative(self._matrices(scene, noisy)))
            return scene.map[scene.egos], outputs | {"pairwise_corr": self._slots(corrections, pairs=True)}
        fused, more = self._corrected(scene, noisy)
        return fused, outputs | more

    def _corrected(self, scene: SceneFeatures, poses: Tensor) -> tuple[Tensor, dict[str, Any]]:
        matrices = self._matrices(scene, poses)
        pairwise = relative(matrices)
        corrections = self._corrections(scene, pairwise)
        regressed = planar_matrix(corrections) @ pairwise
        present = scene.presence.to(matrices.device)
        found = consistent_poses(matrices, regressed, present, self._overlap(scene, regressed)).to(matrices)
        fused, outputs = self._fused(replace(scene, pairwise=relative(found)))
        published = self._identity_outside(scene, regressed)
        return fused, {
            "pairwise_corr": self._slots(corrections, pairs=True),
            "pairwise_t_matrix": published,
            "lidar_pose_corrected": planar_pose(found)[scene.places],
            **outputs,
        }

    def _fused(self, scene: SceneFeatures) -> tuple[Tensor, dict[str, Any]]:
        """V2VNet by trust, and the ``scores`` (B, L, L)."""
        receiver, sender, pair = self._side_by_side(scene)
        trust = self.attention_net.attention_net(pair)
        total = trust.new_zeros(scene.agents).index_add(0, receiver.to(trust.device), trust)
        weights = trust / (total[receiver] + self.attention_net.alpha + LEAST)
        fused = self.fusion_net(scene.with_maps(scene.map, _trust=weights[:, None, None, None]))
        name = "scores" if self.training else "_scores"  # published where they are trained
        return fused, {name: self._slots(self._by_pair(scene, trust), pairs=True)}

    def _corrections(self, scene: SceneFeatures, pairwise: Tensor) -> Tensor:
        """(B, L', L', 3) of every pair, an agent with itself included."""
        _, _, pair = self._side_by_side(replace(scene, pairwise=pairwise))
        return self._by_pair(scene, self.pose_reg_net.pose_regression(pair))

    def _side_by_side(self, scene: SceneFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Receivers and senders of all pairs, and their maps (P, 2C, H, W) in the receiver's view."""
        receiver, sender, matrices = hearing_pairs(scene)
        theta = self._sampling(scene, matrices)
        return receiver, sender, torch.cat([warp(scene.map[sender], theta), scene.map[receiver]], dim=1)

    def _overlap(self, scene: SceneFeatures, pairwise: Tensor) -> Tensor:
        if not self.sees_overlap:
            return pairwise.new_zeros(pairwise.shape[:3])
        _, sender, matrices = hearing_pairs(replace(scene, pairwise=pairwise))
        theta = self._sampling(scene, matrices)
        ones = scene.map.new_ones(len(sender), 1, *scene.map.shape[-2:])
        return self._by_pair(scene, warp(ones, theta).mean(dim=(1, 2, 3)))

    def _sampling(self, scene: SceneFeatures, matrices: Tensor) -> Tensor:
        height, width = scene.map.shape[-2:]
        return normalize_pairwise(matrices, height * self.cell, width * self.cell).to(scene.map)

    def _matrices(self, scene: SceneFeatures, poses: Tensor) -> Tensor:
        """(B, L', 4, 4), identities in empty slots."""
        return planar_matrix(scene.pad(poses))

    @staticmethod
    def _by_pair(scene: SceneFeatures, values: Tensor) -> Tensor:
        """Values (P, ...) of all pairs to (B, L', L', ...), zeros where there is no pair."""
        batch, slots = scene.presence.shape
        return values.new_zeros(batch, slots, slots, *values.shape[1:]).index_put(_pairs(scene), values)

    def _slots(self, values: Tensor, pairs: bool = False) -> Tensor:
        """Zeros up to the published number of slots along axis 1 (and 2)."""
        missing = max(self.slots - values.shape[1], 0)
        sides = (0, missing) if not pairs else (0, missing, 0, missing)
        return nn.functional.pad(values, (0, 0) * (values.dim() - 1 - len(sides) // 2) + sides)

    def _identity_outside(self, scene: SceneFeatures, pairwise: Tensor) -> Tensor:
        slots = max(self.slots, pairwise.shape[1])
        whole = torch.eye(4).to(pairwise).repeat(len(pairwise), slots, slots, 1, 1)
        pairs = _pairs(scene)
        return whole.index_put(pairs, pairwise[pairs])

    def _disturbed(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (N, 3) with errors, and whether each is weak: half of them in stage 0, none later."""
        weak = torch.rand(len(poses)) < 0.5 if self.stage == 0 else torch.zeros(len(poses), dtype=torch.bool)
        metres = torch.where(weak, WEAK[0], STRONG[0])
        degrees = torch.where(weak, WEAK[1], STRONG[1])
        concentration = (180 / (math.pi * degrees)) ** 2
        turns = torch.distributions.VonMises(torch.zeros(len(poses)), concentration).sample()
        moves = torch.randn(len(poses), 2) * metres[:, None]
        error = torch.cat([moves, torch.rad2deg(turns)[:, None]], dim=1)
        return poses + error.to(poses), weak.to(poses)


def _pairs(scene: SceneFeatures) -> tuple[Tensor, ...]:
    """Scene, receiver and sender of every pair, on the host."""
    here = scene.presence
    return (here[:, :, None] & here[:, None, :]).nonzero(as_tuple=True)


def _block(in_channels: int, channels: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1), nn.LeakyReLU(SLOPE), nn.MaxPool2d(2)]
