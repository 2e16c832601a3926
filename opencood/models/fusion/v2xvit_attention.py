"""The two attentions of V2X-ViT: among agents by their types, and among cells in windows of several sizes.

Source: spec models.md 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.fusion.transformer import from_windows, to_windows

TYPES = 2
SPLITS = ("split_attn", "split_attn128", "split_attn64")


class AgentAttention(nn.Module):
    """Attention over the agents at every cell; keys ``to_qkv``, ``to_out.0``."""

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor, absent: Tensor, kinds: Tensor | None = None) -> Tensor:
        """Maps (B, L, H, W, dim) with a mask (B, L) or (B, L, H, W) of who is absent; ``kinds`` make no difference."""
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        logits = torch.einsum("bixymd,bjxymd->bxymij", query, key) * self.scale
        weights = logits.masked_fill(_of_keys(absent), float("-inf")).softmax(dim=-1)
        return self.to_out(torch.einsum("bxymij,bjxymd->bixymd", weights, value).flatten(-2))


class HeteroAgentAttention(nn.Module):
    """Attention over agents whose projections depend on their type and whose relations on the pair of types.

    Keys ``relation_att``, ``relation_msg`` (types^2, heads, d, d) and ``k|q|v|a_linears.{type}``.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        inner = heads * dim_head
        self.relation_att = nn.Parameter(torch.empty(TYPES**2, heads, dim_head, dim_head))
        self.relation_msg = nn.Parameter(torch.empty(TYPES**2, heads, dim_head, dim_head))
        self.k_linears = nn.ModuleList(nn.Linear(dim, inner) for _ in range(TYPES))
        self.q_linears = nn.ModuleList(nn.Linear(dim, inner) for _ in range(TYPES))
        self.v_linears = nn.ModuleList(nn.Linear(dim, inner) for _ in range(TYPES))
        self.a_linears = nn.ModuleList(nn.Linear(inner, dim) for _ in range(TYPES))
        self.drop_out = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.relation_att)
        nn.init.xavier_uniform_(self.relation_msg)

    def forward(self, x: Tensor, absent: Tensor, kinds: Tensor | None = None) -> Tensor:
        """Maps (B, L, H, W, dim), a mask (B, L) or (B, L, H, W) of who is absent, types (B, L), None for all 0."""
        query, key, value = (
            self._by_type(linears, x, kinds).unflatten(-1, (self.heads, -1))
            for linears in (self.q_linears, self.k_linears, self.v_linears)
        )
        relations = [(e, self._pairs(kinds, e)) for e in range(TYPES**2 if kinds is not None else 1)]
        logits = torch.stack([self._ask(query, key, e) * pairs for e, pairs in relations]).sum(dim=0)
        masked = (logits * self.scale).masked_fill(_of_keys(absent), float("-inf"))
        weights = masked.softmax(dim=-1)
        heard = torch.stack([self._hear(weights * pairs, value, e) for e, pairs in relations]).sum(dim=0)
        return self.drop_out(self._by_type(self.a_linears, heard.flatten(-2), kinds))

    def _ask(self, query: Tensor, key: Tensor, relation: int) -> Tensor:
        """q^T A k of every pair of agents, (B, H, W, heads, L, L)."""
        asked = torch.einsum("bixymp,mpq->bixymq", query, self.relation_att[relation])
        return torch.einsum("bixymq,bjxymq->bxymij", asked, key)

    def _hear(self, weights: Tensor, value: Tensor, relation: int) -> Tensor:
        """Weighted sum of M^T v over the senders, (B, L, H, W, heads, d)."""
        message = torch.einsum("bjxymp,mpc->bjxymc", value, self.relation_msg[relation])
        return torch.einsum("bxymij,bjxymc->bixymc", weights, message)

    @staticmethod
    def _by_type(linears: nn.ModuleList, x: Tensor, kinds: Tensor | None) -> Tensor:
        if kinds is None:
            return linears[0](x)
        chosen = kinds[:, :, None, None, None]
        return torch.stack([linear(x) * (chosen == t) for t, linear in enumerate(linears)]).sum(dim=0)

    @staticmethod
    def _pairs(kinds: Tensor | None, relation: int) -> Tensor | float:
        """1 where receiver i and sender j are of the relation ``TYPES * type_i + type_j``."""
        if kinds is None:
            return 1.0
        relations = TYPES * kinds[:, :, None] + kinds[:, None, :]
        return (relations == relation)[:, None, None, None].float()


def _of_keys(absent: Tensor) -> Tensor:
    """A mask (B, L) or (B, L, H, W) shaped to broadcast over logits (B, H, W, heads, L, L)."""
    cells = absent if absent.dim() == 4 else absent[:, :, None, None]
    return cells.permute(0, 2, 3, 1)[:, :, :, None, None, :]


class WindowAttention(nn.Module):
    """Attention among the cells of a window; keys ``pos_embedding``, ``to_qkv``, ``to_out.0``."""

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float, window: int, relative: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        self.window = window
        side = 2 * window - 1 if relative else window**2
        self.pos_embedding = nn.Parameter(torch.randn(side, side))
        self.relative = relative
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, L, H, W, dim) to the same shape."""
        tokens = to_windows(x, self.window)
        query, key, value = self.to_qkv(tokens).unflatten(-1, (3, self.heads, -1)).transpose(-4, -2).unbind(-3)
        weights = (query @ key.transpose(-2, -1) * self.scale + self._bias()).softmax(dim=-1)
        mixed = (weights @ value).transpose(-3, -2).flatten(-2)
        return from_windows(self.to_out(mixed), self.window)

    def _bias(self) -> Tensor:
        """(w^2, w^2) bias of every pair of cells, shared by the heads."""
        if not self.relative:
            return self.pos_embedding
        axis = torch.arange(self.window)
        place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
        offset = place[None] - place[:, None] + self.window - 1
        return self.pos_embedding[offset[..., 0], offset[..., 1]]


class SplitAttention(nn.Module):
    """Weighs maps per channel by what they hold together; ``bn1`` is a LayerNorm under its published name."""

    def __init__(self, dim: int, maps: int = 3) -> None:
        super().__init__()
        self.count = maps
        self.fc1 = nn.Linear(dim, dim, bias=False)
        self.bn1 = nn.LayerNorm(dim)
        self.fc2 = nn.Linear(dim, maps * dim, bias=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """As many maps (B, L, H, W, dim) to one."""
        stacked = torch.stack(list(maps))
        mean = stacked.sum(dim=0).mean(dim=(2, 3))
        weights = self.fc2(F.relu(self.bn1(self.fc1(mean)))).unflatten(-1, (self.count, -1)).softmax(dim=-2)
        return torch.einsum("kblxyc,blkc->blxyc", stacked, weights)


class PyramidWindowAttention(nn.Module):
    """Window attentions of several sizes, merged by their mean or by split attention; keys ``pwmsa.{k}``."""

    def __init__(
        self,
        dim: int,
        heads: Sequence[int],
        dim_head: Sequence[int],
        window_size: Sequence[int],
        relative_pos_embedding: bool = True,
        fusion_method: str = "naive",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if fusion_method not in ("naive", *SPLITS):
            raise ConfigError(
                f"pwindow_att_config: fusion_method '{fusion_method}' is none of naive, {', '.join(SPLITS)}."
            )
        if fusion_method in SPLITS and len(window_size) != 3:
            raise ConfigError(f"pwindow_att_config: split attention merges three windows, not {len(window_size)}.")
        self.pwmsa = nn.ModuleList(
            WindowAttention(dim, h, d, dropout, w, relative_pos_embedding)
            for h, d, w in zip(heads, dim_head, window_size, strict=True)
        )
        self.split_attn = SplitAttention(dim) if fusion_method in SPLITS else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, L, H, W, dim) to the same shape."""
        maps = [attention(x) for attention in self.pwmsa]
        return torch.stack(maps).mean(dim=0) if self.split_attn is None else self.split_attn(maps)
