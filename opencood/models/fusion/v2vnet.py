"""V2VNet: agents pass messages to each other in rounds, a convolutional GRU reads them (spec models.md 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from opencood.errors import ConfigError
from opencood.geometry.warp import normalize_pairwise, warp
from opencood.models.scene import SceneFeatures
from opencood.registry import register

AGGREGATIONS = ("avg", "max")


class GRUCell(nn.Module):
    """One step of a convolutional GRU that starts from nothing.

    The hidden state is zero, so the reset gate and the weights on the hidden state have no effect; they are kept for
    checkpoints.
    """

    def __init__(self, in_channels: int, hidden: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden = hidden
        height, width = kernel
        padding = (height // 2, width // 2)
        self.conv_gates = nn.Conv2d(in_channels + hidden, 2 * hidden, (height, width), padding=padding)
        self.conv_can = nn.Conv2d(in_channels + hidden, hidden, (height, width), padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to the new hidden state (N, hidden, H, W)."""
        update = self._run(self.conv_gates, x, first=self.hidden).sigmoid()
        return update * self._run(self.conv_can, x).tanh()

    def _run(self, conv: nn.Conv2d, x: Tensor, first: int = 0) -> Tensor:
        bias = None if conv.bias is None else conv.bias[first:]
        return F.conv2d(x, conv.weight[first:, : self.in_channels], bias, padding=conv.padding)


class ConvGRU(nn.Module):
    """Cells one after the other; keys ``cell_list.{l}.conv_gates|conv_can``."""

    def __init__(self, in_channels: int, hidden: int, kernels: Sequence[Sequence[int]]) -> None:
        super().__init__()
        widths = [in_channels] + [hidden] * (len(kernels) - 1)
        self.cell_list = nn.ModuleList(GRUCell(w, hidden, k) for w, k in zip(widths, kernels, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, hidden, H, W)."""
        for cell in self.cell_list:
            x = cell(x)
        return x


@register("fusion", "v2vnet")
class V2VNetFusion(nn.Module):
    """Every agent hears every agent of its scene in each round; what the ego knows in the end is the result.

    Args:
        in_channels: channels of the map.
        num_iteration: rounds.
        gru_flag: read messages with the GRU; else they are added.
        agg_operator: ``avg`` or ``max`` over the messages an agent hears, its own among them.
        conv_gru: ``num_layers``, ``kernel_size`` (one pair per layer); ``H``, ``W`` are taken from the map instead.
    """

    def __init__(
        self,
        in_channels: int,
        num_iteration: int,
        conv_gru: Mapping[str, Any],
        gru_flag: bool = True,
        agg_operator: str = "avg",
    ) -> None:
        super().__init__()
        if agg_operator not in AGGREGATIONS:
            raise ConfigError(f"v2vnet: agg_operator '{agg_operator}' is none of {', '.join(AGGREGATIONS)}.")
        self.rounds = num_iteration
        self.largest = agg_operator == "max"
        self.gru_flag = gru_flag
        self.msg_cnn = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1)
        self.conv_gru = ConvGRU(2 * in_channels, in_channels, conv_gru["kernel_size"][: conv_gru["num_layers"]])
        self.mlp = nn.Linear(in_channels, in_channels)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        receiver, sender, theta = _pairs(scene)
        x = scene.map
        theta = theta.to(x)
        seen = warp(x.new_ones(len(sender), 1, *x.shape[-2:]), theta)
        for _ in range(self.rounds):
            messages = self.msg_cnn(torch.cat([warp(x[sender], theta), x[receiver]], dim=1)) * seen
            heard = self._aggregate(messages, torch.bincount(receiver).tolist())
            x = self.conv_gru(torch.cat([x, heard], dim=1)) if self.gru_flag else x + heard
        return self.mlp(x[scene.egos].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _aggregate(self, messages: Tensor, counts: list[int]) -> Tensor:
        """Messages, grouped by receiver, to one map per agent (N, C, H, W)."""
        groups = messages.split(counts)
        if self.largest:
            return pad_sequence(groups, batch_first=True, padding_value=float("-inf")).amax(dim=1)
        total = pad_sequence(groups, batch_first=True).sum(dim=1)
        return total / torch.tensor(counts, device=total.device)[:, None, None, None]


def _pairs(scene: SceneFeatures) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of receiver and sender of every pair of agents in a scene, by receiver, and the matrices (P, 2, 3)."""
    if scene.pairwise is None or scene.extent is None:
        raise ValueError("this scene has no poses, so its agents cannot hear each other")
    here = scene.presence
    rows = torch.zeros(here.shape, dtype=torch.long)
    rows[here] = torch.arange(scene.agents)
    of_scene, i, j = (here[:, :, None] & here[:, None, :]).nonzero(as_tuple=True)
    theta = normalize_pairwise(scene.pairwise[of_scene, i, j], *scene.extent)
    return rows[of_scene, i], rows[of_scene, j], theta
