"""CoBEVT: attention over agents and cells, near ones in windows and far ones in grids (spec models.md 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.fusion.transformer import FeedForward, PreNorm, from_windows, to_windows
from opencood.models.scene import SceneFeatures
from opencood.registry import register

# Names of attention and feed-forward of the windows and of the grid, with and without a mask.
BRANCHES = {
    True: (("window_attention", "window_ffd"), ("grid_attention", "grid_ffd")),
    False: (("1", "2"), ("5", "6")),
}


class FusedAxialAttention(nn.Module):
    """Attention among the cells of a window of all agents, with a learned bias for every relative position.

    Keys ``relative_position_index`` (an index table), ``to_qkv``, ``to_out.0``, ``relative_position_bias_table``.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, dim_head: int, dropout: float, agents: int, window: int) -> None:
        super().__init__()
        if dim % dim_head:
            raise ConfigError(f"cobevt: input_dim {dim} is no multiple of dim_head {dim_head}.")
        self.heads = dim // dim_head
        self.scale = dim_head**-0.5
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Dropout(dropout))
        self.relative_position_bias_table = nn.Embedding((2 * agents - 1) * (2 * window - 1) ** 2, self.heads)
        self.register_buffer("relative_position_index", _relative_positions(agents, window))

    def forward(self, x: Tensor, absent: Tensor | None) -> Tensor:
        """Tokens (B, rows, columns, T, dim) with a mask (B, T) of tokens of empty slots, to the same shape."""
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        logits = torch.einsum("bxyihd,bxyjhd->bxyhij", query * self.scale, key)
        logits = logits + self.relative_position_bias_table(self.relative_position_index).permute(2, 0, 1)
        if absent is not None:
            logits = logits.masked_fill(absent[:, None, None, None, None, :], float("-inf"))
        weights = logits.softmax(dim=-1)
        return self.to_out(torch.einsum("bxyhij,bxyjhd->bxyihd", weights, value).flatten(-2))


class CoBEVTBlock(nn.Module):
    """Window attention, feed-forward, grid attention, feed-forward, each a residual branch.

    Args:
        masked: whether the tokens of empty slots are left out. Without a mask the branches are known by their place in
            a published sequence, ``block.{1,2,5,6}``.
    """

    def __init__(
        self, dim: int, hidden: int, dim_head: int, dropout: float, agents: int, window: int, masked: bool = True
    ) -> None:
        super().__init__()
        self.window = window
        self.masked = masked
        branches: dict[str, nn.Module] = {}
        for attention, feed_forward in BRANCHES[masked]:
            branches[attention] = PreNorm(dim, FusedAxialAttention(dim, dim_head, dropout, agents, window))
            branches[feed_forward] = PreNorm(dim, FeedForward(dim, hidden, dropout))
        if masked:
            for name, branch in branches.items():
                self.add_module(name, branch)
        else:
            self.block = nn.ModuleDict(branches)

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        """Maps (B, L, H, W, dim) with a mask (B, L) of empty slots, to the same shape."""
        branches = list(self.children() if self.masked else self.block.values())
        x = self._attend(x, absent, branches[0], dilated=False)
        x = x + branches[1](x)
        x = self._attend(x, absent, branches[2], dilated=True)
        return x + branches[3](x)

    def _attend(self, x: Tensor, absent: Tensor, attention: nn.Module, dilated: bool) -> Tensor:
        tokens = to_windows(x, self.window, dilated)
        flat = tokens.flatten(3, 4)
        hidden = absent.repeat_interleave(self.window**2, dim=1) if self.masked else None
        return x + from_windows(attention(flat, hidden).unflatten(3, tokens.shape[3:5]), self.window, dilated)


@register("fusion", "cobevt", ignores=("mask",))
class CoBEVT(nn.Module):
    """Window and grid attention, then the mean over all slots, empty ones included (checkpoints depend on it).

    Args:
        input_dim: channels of the map; mlp_dim: hidden width of the feed-forward parts; depth: number of blocks.
        agent_size: slots, the largest number of agents; window_size: must divide the map; dim_head, drop_out.
        masked: whether attention leaves out empty slots.
    """

    def __init__(
        self,
        input_dim: int,
        mlp_dim: int,
        agent_size: int,
        window_size: int,
        dim_head: int,
        drop_out: float = 0.1,
        depth: int = 1,
        masked: bool = True,
    ) -> None:
        super().__init__()
        self.agent_size = agent_size
        self.layers = nn.ModuleList(
            CoBEVTBlock(input_dim, mlp_dim, dim_head, drop_out, agent_size, window_size, masked) for _ in range(depth)
        )
        # published as positions 2 and 3 of a sequence
        self.mlp_head = nn.ModuleDict({"2": nn.LayerNorm(input_dim), "3": nn.Linear(input_dim, input_dim)})

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        maps = scene.pad(scene.to_ego(scene.map)).permute(0, 1, 3, 4, 2)
        missing = self.agent_size - maps.shape[1]
        if missing < 0:
            raise ConfigError(f"cobevt: {maps.shape[1]} agents in a scene, but agent_size is {self.agent_size}.")
        x = nn.functional.pad(maps, (0,) * 7 + (missing,))
        absent = ~nn.functional.pad(scene.presence, (0, missing)).to(x.device)
        for layer in self.layers:
            x = layer(x, absent)
        fused = x.mean(dim=1)
        for step in self.mlp_head.values():
            fused = step(fused)
        return fused.permute(0, 3, 1, 2).contiguous()


def _relative_positions(agents: int, window: int) -> Tensor:
    """(T, T) row of the bias table for query and key, T = agents * window^2; offset = query minus key."""
    axes = torch.meshgrid(torch.arange(agents), torch.arange(window), torch.arange(window), indexing="ij")
    place = torch.stack([axis.flatten() for axis in axes], dim=-1)
    offset = place[:, None] - place[None] + torch.tensor([agents - 1, window - 1, window - 1])
    span = 2 * window - 1
    return offset[..., 0] * span * span + offset[..., 1] * span + offset[..., 2]
