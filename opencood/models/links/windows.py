"""Attention inside windows of a map and inside grids of distant cells, as MPDA uses it (spec gencomm.md 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.fusion.transformer import FeedForward, PreNorm, from_windows, to_windows

Tokens = Callable[..., Tensor]


def in_windows(attend: Tokens, size: int, dilated: bool, *maps: Tensor) -> Tensor:
    """Cut maps (N, H, W, C) into windows, let ``attend`` work on their tokens (M, size^2, C), put the result together.

    The cells of a window are neighbours; dilated, they are H / size rows and W / size columns apart.
    """
    cut = [to_windows(level[:, None], size, dilated) for level in maps]
    tokens = attend(*(windows.flatten(0, 3) for windows in cut))
    return from_windows(tokens.unflatten(0, cut[0].shape[:4]), size, dilated)[:, 0]


class WindowAttention(nn.Module):
    """Attention among the tokens of a window with a learned bias per relative position.

    Keys ``to_qkv, to_out.0, rel_pos_bias``.
    """

    places: Tensor

    def __init__(self, dim: int, dim_head: int, dropout: float, window: int) -> None:
        super().__init__()
        if dim % dim_head:
            raise ConfigError(f"model.args.resizer.wg_att: input_dim {dim} is no multiple of dim_head {dim_head}.")
        self.heads = dim // dim_head
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Dropout(dropout))
        self.rel_pos_bias = nn.Embedding((2 * window - 1) ** 2, self.heads)
        axes = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        cell = torch.stack([axis.flatten() for axis in axes], dim=-1)
        offset = cell[:, None] - cell[None] + window - 1  # query minus key
        self.register_buffer("places", offset[..., 0] * (2 * window - 1) + offset[..., 1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (M, T, dim) to the same shape."""
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.rel_pos_bias(self.places).permute(2, 0, 1)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class WindowGridLayer(nn.Module):
    """Window attention, feed-forward, grid attention, feed-forward, each a residual branch; keys ``block.{1,2,5,6}``.

    The other numbers of the published sequence are rearrangements.
    """

    def __init__(self, dim: int, hidden: int, dim_head: int, dropout: float, window: int) -> None:
        super().__init__()
        self.window = window
        steps: dict[str, nn.Module] = {}
        for attention, feed_forward in (("1", "2"), ("5", "6")):
            steps[attention] = PreNorm(dim, WindowAttention(dim, dim_head, dropout, window))
            steps[feed_forward] = PreNorm(dim, FeedForward(dim, hidden, dropout))
        self.block = nn.ModuleDict(steps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) to the same shape."""
        near, after_near, far, after_far = self.block.values()
        x = x + in_windows(near, self.window, False, x)
        x = x + after_near(x)
        x = x + in_windows(far, self.window, True, x)
        return x + after_far(x)


class WindowGridEncoder(nn.Module):
    """Layers of window and grid attention and a linear map; keys ``layers.{i}.block.*``, ``mlp_head.{1,2}``.

    Args:
        input_dim: channels; mlp_dim: hidden width of the feed-forward parts; window_size: must divide the map.
    """

    def __init__(
        self, input_dim: int, mlp_dim: int, window_size: int, dim_head: int, drop_out: float = 0.0, depth: int = 1
    ) -> None:
        super().__init__()
        layer = (input_dim, mlp_dim, dim_head, drop_out, window_size)
        self.layers = nn.ModuleList(WindowGridLayer(*layer) for _ in range(depth))
        self.mlp_head = head(input_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = x.permute(0, 2, 3, 1)
        for layer in self.layers:
            y = layer(y)
        for step in self.mlp_head.values():
            y = step(y)
        return y.permute(0, 3, 1, 2).contiguous()


def head(dim: int) -> nn.ModuleDict:
    """LayerNorm and linear map at the end, positions 1 and 2 of the published sequence."""
    return nn.ModuleDict({"1": nn.LayerNorm(dim), "2": nn.Linear(dim, dim)})
