"""HM-ViT: agents of several types attend to each other in each one's own view (Xiang et al., 2023; spec hmvit.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.fusion.hmvit_views import Views
from opencood.models.fusion.transformer import from_windows, to_windows
from opencood.models.fusion.typed import TypedFeedForward, TypedNorm, TypedPreNorm, by_type
from opencood.models.fusion.v2xvit_attention import SplitAttention
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY, Entry, register

MODES = ("sequential", "parallel")
STAGES = ("window", "grid")


class HeteroAttention(nn.Module):
    """A receiver's cells ask the cells of all agents in the same window, by the types of both.

    Keys ``relation_att|msg`` (types^2, heads, d, d), ``relative_position_index``, ``k|q|v_linears.{t}``,
    ``a_linears.{t}.0``, ``relative_position_bias_table``.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, dim_head: int, window: int, types: int, dropout: float, dilated: bool) -> None:
        super().__init__()
        self.heads, self.types, self.window, self.dilated = dim // dim_head, types, window, dilated
        self.scale = dim_head**-0.5
        self.relation_att = nn.Parameter(torch.empty(types**2, self.heads, dim_head, dim_head))
        self.relation_msg = nn.Parameter(torch.empty(types**2, self.heads, dim_head, dim_head))
        nn.init.xavier_uniform_(self.relation_att)
        nn.init.xavier_uniform_(self.relation_msg)
        self.register_buffer("relative_position_index", _relative_positions(window))
        self.k_linears, self.q_linears, self.v_linears = (
            nn.ModuleList(nn.Linear(dim, dim) for _ in range(types)) for _ in range(3)
        )
        self.a_linears = nn.ModuleList(nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout)) for _ in range(types))
        self.relative_position_bias_table = nn.Embedding((2 * window - 1) ** 2, self.heads)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, views: Views, kinds: Tensor) -> Tensor:
        """Normed maps (B, L, H, W, C) and types (B, L) to what each receiver hears, (B, receivers, H, W, C)."""
        receivers = views.grid.shape[1]
        of_receivers = kinds[:, :receivers]
        seen = views.fetch(x)
        of_senders = kinds[:, None].expand(-1, receivers, -1)
        relation = self.types * of_receivers[:, :, None] + of_senders
        own = torch.arange(receivers, device=x.device)
        query = by_type(self.q_linears, seen[:, own, own], of_receivers)
        key = self._related(self.relation_att[relation], by_type(self.k_linears, seen, of_senders), "pq", "q", "p")
        value = self._related(self.relation_msg[relation], by_type(self.v_linears, seen, of_senders), "pq", "p", "q")
        heard = self._attend(query, key, value, views.covered)
        return self.drop(by_type([linear.get_submodule("0") for linear in self.a_linears], heard, of_receivers))

    def _related(self, matrix: Tensor, x: Tensor, axes: str, taken: str, given: str) -> Tensor:
        """Maps (B, i, j, H, W, C) of every pair through the matrices (B, i, j, heads, d, d) of their relation."""
        heads = x.unflatten(-1, (self.heads, -1))
        return torch.einsum(f"bijm{axes},bijxym{taken}->bijxym{given}", matrix, heads).flatten(-2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, covered: Tensor) -> Tensor:
        """Within windows: (B, i, H, W, C) asks (B, i, j, H, W, C) where (B, i, j, H, W) allows."""
        batch, receivers = query.shape[:2]
        q = self._tokens(query.flatten(0, 1)[:, None]) * self.scale
        k, v = (self._tokens(x.flatten(0, 1)) for x in (key, value))
        visible = to_windows(covered.flatten(0, 1)[..., None], self.window, self.dilated).flatten(3)
        bias = self.relative_position_bias_table(self.relative_position_index).permute(2, 0, 1)
        logits = q @ k.transpose(-2, -1) + bias.repeat(1, 1, key.shape[2])
        weights = logits.masked_fill(~visible[:, :, :, None, None], float("-inf")).softmax(dim=-1)
        heard = (weights @ v).transpose(-3, -2).flatten(-2)
        return from_windows(heard[:, :, :, None], self.window, self.dilated)[:, 0].unflatten(0, (batch, receivers))

    def _tokens(self, x: Tensor) -> Tensor:
        """(n, slots, H, W, C) to (n, rows, columns, heads, slots * w^2, d)."""
        tokens = to_windows(x, self.window, self.dilated).flatten(3, 4)
        return tokens.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class HeteroFusionBlock(nn.Module):
    """A window and a grid stage, one after the other or side by side; keys ``window_*``, ``grid_*``, ``split_attn``.

    ``aggregate_fc`` is part of every checkpoint and never run.
    """

    def __init__(
        self,
        architect_mode: str,
        input_dim: int,
        mlp_dim: int,
        window_size: int,
        dim_head: int,
        drop_out: float = 0.0,
        num_types: int = 2,
    ) -> None:
        super().__init__()
        if architect_mode not in MODES:
            raise ConfigError(f"hetero_fusion_block: architect_mode '{architect_mode}' is none of {', '.join(MODES)}.")
        if input_dim % dim_head:
            raise ConfigError(f"hetero_fusion_block: input_dim {input_dim} is no multiple of dim_head {dim_head}.")
        self.split_attn = SplitAttention(input_dim, maps=2) if architect_mode == "parallel" else None
        for stage in STAGES:
            self.add_module(f"{stage}_norm", TypedNorm(input_dim, num_types))
            attention = HeteroAttention(input_dim, dim_head, window_size, num_types, drop_out, dilated=stage == "grid")
            self.add_module(f"{stage}_attention", attention)
            feed = TypedFeedForward(input_dim, mlp_dim, input_dim, num_types, drop_out)
            self.add_module(f"{stage}_ffd", TypedPreNorm(TypedNorm(input_dim, num_types), feed))
        self.aggregate_fc = TypedFeedForward(3 * mlp_dim, mlp_dim, mlp_dim, num_types, drop_out)

    def forward(self, x: Tensor, views: Views, kinds: Tensor, only_ego: bool = False) -> Tensor:
        """Maps (B, L, H, W, C) to the same shape; with ``only_ego`` to (B, 1, H, W, C), the first agent's."""
        last = views.first(1) if only_ego else views
        if self.split_attn is not None:
            return self.split_attn([self._stage(stage, x, last, kinds) for stage in STAGES])
        window, grid = STAGES
        return self._stage(grid, self._stage(window, x, views, kinds), last, kinds)

    def _stage(self, stage: str, x: Tensor, views: Views, kinds: Tensor) -> Tensor:
        receivers = views.grid.shape[1]
        normed = self.get_submodule(f"{stage}_norm")(x, kinds)
        y = x[:, :receivers] + self.get_submodule(f"{stage}_attention")(normed, views, kinds)
        return y + self.get_submodule(f"{stage}_ffd")(y, kinds[:, :receivers])


@register("fusion", "hmvit")
class HMViT(nn.Module):
    """Passes through one block, whose last stage only the ego needs, and a feed-forward of the ego's type.

    Args:
        num_iters: passes.
        spatial_transform: ``voxel_size``, ``downsample_rate``: the size of a cell.
        hetero_fusion_block: arguments of the block.
        num_types: types of the last feed-forward.
        warpslow: see :class:`Views`.
    """

    def __init__(
        self,
        num_iters: int,
        spatial_transform: Mapping[str, Any],
        hetero_fusion_block: Mapping[str, Any],
        num_types: int = 2,
        warpslow: bool = True,
    ) -> None:
        super().__init__()
        ignored = frozenset({"spatial_transform", "agent_size", "mask"})
        entry = Entry("fusion", "hetero_fusion_block", HeteroFusionBlock, ignored)
        args = REGISTRY.check_arguments(entry, hetero_fusion_block, "model.args.hmvit.hetero_fusion_block")
        self.passes = num_iters
        self.cell = spatial_transform["voxel_size"][0] * spatial_transform["downsample_rate"]
        self.by_pixels = warpslow
        self.hetero_fusion_block = HeteroFusionBlock(**args)
        self.mlp_head = TypedFeedForward(args["input_dim"], args["input_dim"], args["input_dim"], num_types)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) of agents of types ``scene.kind`` to the egos' (B, C, H, W)."""
        if scene.pairwise is None or scene.kind is None:
            raise ValueError("this scene does not tell the poses and types of its agents")
        maps = scene.map
        x = scene.pad(maps.permute(0, 2, 3, 1))
        kinds = scene.pad(scene.kind.to(maps.device, torch.long))
        slots = x.shape[1]
        pairwise = scene.pairwise[:, :slots, :slots].to(maps)
        return self.fuse(x, self.views(pairwise, scene.presence.to(maps.device), x), kinds)

    def views(self, pairwise: Tensor, present: Tensor, x: Tensor) -> Views:
        """How the agents see each other's maps (B, L, H, W, C)."""
        return Views.of(pairwise, present, (x.shape[2], x.shape[3]), self.cell, self.by_pixels)

    def fuse(self, x: Tensor, views: Views, kinds: Tensor) -> Tensor:
        """Maps (B, L, H, W, C) and types (B, L) to the first agents' (B, C, H, W)."""
        for number in range(self.passes):
            x = self.hetero_fusion_block(x, views, kinds, only_ego=number == self.passes - 1)
        return self.mlp_head(x[:, 0], kinds[:, 0]).permute(0, 3, 1, 2).contiguous()


def _relative_positions(window: int) -> Tensor:
    """(w^2, w^2) row of the bias table for the cell that asks and the cell that answers."""
    axis = torch.arange(window)
    place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
    offset = place[:, None] - place[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]
