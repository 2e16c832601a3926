"""The one value that travels between the stages of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opencood.errors import ConfigError
from opencood.geometry.warp import normalize_pairwise, warp

# Where a link puts the name of the backend that reads what it received.
BACKEND = "_backend"


@dataclass(frozen=True)
class SceneFeatures:
    """The maps of all agents of a batch, and what is known about the agents.

    N agents in B scenes, at most L in one; the agents of a scene follow each other and the first is its ego.

    Attributes:
        maps: one tensor (N, C_i, H_i, W_i) per level, rows grow with y; empty when only the layout is meant.
        record_len: agents of each scene, as host integers (no device is asked for them).
        pairwise: (B, L, L, 4, 4); [b, i, j] maps coordinates of agent i to agent j; None where nobody collaborates.
        extent: metres the maps cover along (y, x), centred at the agent.
        modality: name of each agent's sensor and model (``m1``), N of them; empty in homogeneous detectors.
        kind: (N,) agent type, 0 vehicle, 1 infrastructure.
        delay: (N,) age of the agent's data, in frames.
        speed: (N,) speed of the agent.
        correction: (N, 4, 4) motion of the agent between its data and now.
        pose: (N, 6) where the agent believes to be: x, y, z in metres, roll, yaw, pitch in degrees.
        frame: whose coordinates the maps are in: each agent's ``own``, or already the ``ego``'s (early projection).
        sizes: (H, W) of each modality where they differ; maps are then as large as the largest, filled with zeros.
        aux: the published extra outputs gathered on the way.
    """

    maps: tuple[Tensor, ...]
    record_len: tuple[int, ...]
    pairwise: Tensor | None = None
    extent: tuple[float, float] | None = None
    modality: tuple[str, ...] = ()
    kind: Tensor | None = None
    delay: Tensor | None = None
    speed: Tensor | None = None
    correction: Tensor | None = None
    pose: Tensor | None = None
    frame: Literal["own", "ego"] = "own"
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    aux: Mapping[str, Any] = field(default_factory=dict)

    @property
    def map(self) -> Tensor:
        """The only level (N, C, H, W)."""
        (only,) = self.maps
        return only

    def of_modality(self, name: str) -> Tensor:
        """Maps (n, C, H, W) of the agents of one modality, in order and at their own size."""
        rows = [row for row, own in enumerate(self.modality) if own == name]
        level = self.map if len(rows) == len(self.modality) else self.map[rows]
        height, width = self.sizes.get(name, (level.shape[-2], level.shape[-1]))
        return level[..., :height, :width]

    @property
    def agents(self) -> int:
        """N."""
        return sum(self.record_len)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """For every agent its scene and its position in that scene, (N,) integers each, on the host."""
        counts = torch.tensor(self.record_len)
        scene = torch.repeat_interleave(torch.arange(len(counts)), counts)
        first = torch.cumsum(counts, 0) - counts
        return scene, torch.arange(int(counts.sum())) - first[scene]

    @cached_property
    def egos(self) -> list[int]:
        """Row of each scene's ego."""
        rows, row = [], 0
        for count in self.record_len:
            rows.append(row)
            row += count
        return rows

    @cached_property
    def presence(self) -> Tensor:
        """(B, L') mask of the filled slots, L' the largest scene, on the host."""
        counts = torch.tensor(self.record_len)
        return torch.arange(int(counts.max())) < counts[:, None]

    def pad(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Regroup (N, ...) to (B, L', ...), empty slots filled; gradients flow through."""
        if len(set(self.record_len)) == 1:
            return values.unflatten(0, (len(self.record_len), -1))
        return pad_sequence(values.split(list(self.record_len)), batch_first=True, padding_value=fill)

    def to_ego(self, values: Tensor, align_corners: bool = False, mode: str = "bilinear") -> Tensor:
        """Warp every agent's map (N, C, H, W) into the frame of its ego (spec models.md 3.1)."""
        if self.frame == "ego":
            return values
        size = (values.shape[-2], values.shape[-1])
        return warp(values, self._ego_affine.to(values), size, mode, align_corners)

    def from_ego(self, values: Tensor) -> Tensor:
        """Warp maps (N, C, H, W), each in the frame of its agent's ego, into the agent's own; inverse of ``to_ego``."""
        if self.frame == "ego":
            return values
        if self.pairwise is None or self.extent is None:
            raise ValueError("this scene has no poses, so nothing can be warped from the ego")
        scene, slot = (place.to(self.pairwise.device) for place in self.places)
        affine = normalize_pairwise(self.pairwise[scene, slot, 0], *self.extent)
        return warp(values, affine.to(values))

    @cached_property
    def _ego_affine(self) -> Tensor:
        """(N, 2, 3): normalised row 0 of the pairwise matrices, which maps an ego position to the agent's map."""
        if self.pairwise is None or self.extent is None:
            raise ValueError("this scene has no poses, so nothing can be warped to the ego")
        scene, slot = self.places
        rows = self.pairwise[:, 0][scene.to(self.pairwise.device), slot.to(self.pairwise.device)]
        return normalize_pairwise(rows, *self.extent)

    def with_maps(self, *maps: Tensor, **aux: Any) -> SceneFeatures:
        """The same agents with other maps, and further extra outputs."""
        return replace(self, maps=maps, aux={**self.aux, **aux})

    def layout(self) -> SceneFeatures:
        """Who is here and where, without any map: what a receiver knows besides the messages."""
        return replace(self, maps=(), aux={})

    def of_egos(self) -> SceneFeatures:
        """The egos alone, each with its own maps."""
        _, slot = self.places
        return replace(self.select((slot == 0).tolist()), aux={})

    def alone(self, row: int) -> SceneFeatures:
        """One agent as it knows itself: its maps, and nothing of the others or of where it is."""
        return replace(
            self,
            maps=tuple(level[row : row + 1] for level in self.maps),
            record_len=(1,),
            pairwise=None,
            modality=self.modality[row : row + 1],
            aux={},
            **self._per_agent([row]),
        )

    @property
    def is_alone(self) -> bool:
        """Whether this is one agent as it knows itself (see :meth:`alone`), so that what it says goes over a wire."""
        return self.pairwise is None

    def fused(self, level: Tensor, **aux: Any) -> SceneFeatures:
        """What the scenes became: one map (B, C, H, W) in the view of each ego."""
        egos = self.layout().of_egos()
        return replace(egos, maps=(level,), frame="ego", aux={**self.aux, **aux})

    def select(self, keep: Sequence[bool]) -> SceneFeatures:
        """The scene with some of its agents, as if the others had never been there."""
        if all(keep):
            return self
        rows = [row for row, kept in enumerate(keep) if kept]
        scene, _ = self.places
        counts = torch.bincount(scene[rows], minlength=len(self.record_len)).tolist()
        return replace(
            self,
            maps=tuple(level[rows] for level in self.maps),
            record_len=tuple(counts),
            pairwise=self._pairwise_of(torch.tensor(keep)),
            modality=tuple(self.modality[row] for row in rows) if self.modality else (),
            **self._per_agent(rows),
        )

    def _per_agent(self, rows: list[int]) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in ("kind", "delay", "speed", "correction", "pose")}
        return {name: None if values is None else values[rows] for name, values in known.items()}

    def _pairwise_of(self, keep: Tensor) -> Tensor | None:
        if self.pairwise is None:
            return None
        kept = torch.zeros(self.pairwise.shape[:2], dtype=torch.bool)
        kept[self.places] = keep
        # kept slots first, in their old order; what follows is never read
        order = torch.argsort((~kept).to(torch.int8), dim=1, stable=True).to(self.pairwise.device)
        scene = torch.arange(len(order), device=order.device)[:, None, None]
        return self.pairwise[scene, order[:, :, None], order[:, None, :]]


def in_agent_order(maps: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Maps of all agents (N, C, H, W), given those of each modality in the order its agents appear.

    Raises:
        ConfigError: they differ in size or channels.
    """
    if len(maps) == 1:
        return next(iter(maps.values()))
    shapes = {m: tuple(level.shape[1:]) for m, level in maps.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{m} {shape}" for m, shape in shapes.items())
        raise ConfigError(
            f"model.args: the maps of the modalities differ in (C, H, W): {told}; align their strides and widths."
        )
    rows = [row for m in maps for row, name in enumerate(names) if name == m]
    return torch.cat(list(maps.values()))[torch.tensor(rows).argsort()]


def at_one_size(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The maps with zeros at their ends, all as large as the largest."""
    height = max(level.shape[-2] for level in maps.values())
    width = max(level.shape[-1] for level in maps.values())
    return {m: F.pad(level, (0, width - level.shape[-1], 0, height - level.shape[-2])) for m, level in maps.items()}
