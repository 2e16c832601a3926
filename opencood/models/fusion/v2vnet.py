"""V2VNet: agents pass messages to each other in rounds, a convolutional GRU reads them (spec models.md 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


class Pairs(NamedTuple):
    """Who hears whom, in P pairs ordered by receiver.

    Attributes:
        receiver, sender: (P,) rows of agents, on the host.
        theta: (P, 2, 3) what fetches the sender's map into the receiver's view.
        seen: (P, 1, H, W) what of the receiver's map the sender covers.
        align_corners: convention of ``theta``.
        weights: (P, 1, 1, 1) of the messages, which are then summed; None leaves that to ``agg_operator``.
    """

    receiver: Tensor
    sender: Tensor
    theta: Tensor
    seen: Tensor
    align_corners: bool = False
    weights: Tensor | None = None


@register("fusion", "v2vnet")
class V2VNetFusion(nn.Module):
    """Every agent hears every agent of its scene in each round; what the ego knows in the end is the result.

    Args:
        in_channels: channels of the map.
        num_iteration: rounds.
        gru_flag: read messages with the GRU; else they are added.
        agg_operator: ``avg`` or ``max`` over the messages an agent hears, its own among them.
        conv_gru: ``num_layers``, ``kernel_size`` (one pair per layer); ``H``, ``W`` are taken from the map instead.
        use_temporal_encoding: the delay of each agent, in frames, is one more channel of its map (V2V4Real). The
            convolution ``cnn`` that reads it exists wherever this is given.
    """

    def __init__(
        self,
        in_channels: int,
        num_iteration: int,
        conv_gru: Mapping[str, Any],
        gru_flag: bool = True,
        agg_operator: str = "avg",
        use_temporal_encoding: bool | None = None,
    ) -> None:
        super().__init__()
        if agg_operator not in AGGREGATIONS:
            raise ConfigError(f"v2vnet: agg_operator '{agg_operator}' is none of {', '.join(AGGREGATIONS)}.")
        self.rounds = num_iteration
        self.largest = agg_operator == "max"
        self.gru_flag = gru_flag
        self.reads_delay = bool(use_temporal_encoding)
        if use_temporal_encoding is not None:
            self.cnn = nn.Conv2d(in_channels + 1, in_channels, 3, padding=1)
        self.msg_cnn = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1)
        self.conv_gru = ConvGRU(2 * in_channels, in_channels, conv_gru["kernel_size"][: conv_gru["num_layers"]])
        self.mlp = nn.Linear(in_channels, in_channels)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        x = self.before(scene)
        pairs = self.pairs(scene, x)
        for _ in range(self.rounds):
            fetched = warp(x[pairs.sender], pairs.theta, align_corners=pairs.align_corners)
            messages = self.msg_cnn(torch.cat([fetched, x[pairs.receiver]], dim=1)) * pairs.seen
            heard = self._aggregate(messages, pairs)
            x = self.conv_gru(torch.cat([x, heard], dim=1)) if self.gru_flag else x + heard
        return self.mlp(x[scene.egos].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def before(self, scene: SceneFeatures) -> Tensor:
        """What the rounds start from, (N, C, H, W): the maps, or maps that know how old they are."""
        if not self.reads_delay:
            return scene.map
        if scene.delay is None:
            raise ValueError("this scene does not tell the delays of its agents (prior_encoding)")
        delay = scene.delay.trunc().to(scene.map)[:, None, None, None]
        return self.cnn(torch.cat([scene.map, delay.expand(-1, 1, *scene.map.shape[-2:])], dim=1))

    def pairs(self, scene: SceneFeatures, like: Tensor) -> Pairs:
        """How every agent hears every agent of its scene, itself included; ``like`` has the size of the maps."""
        if scene.extent is None:
            raise ValueError("this scene has no extent, so its agents cannot hear each other")
        receiver, sender, matrices = hearing_pairs(scene)
        theta = normalize_pairwise(matrices, *scene.extent).to(like)
        return Pairs(receiver, sender, theta, warp(like.new_ones(len(sender), 1, *like.shape[-2:]), theta))

    def _aggregate(self, messages: Tensor, pairs: Pairs) -> Tensor:
        """Messages, grouped by receiver, to one map per agent (N, C, H, W)."""
        counts = torch.bincount(pairs.receiver).tolist()
        if pairs.weights is not None:
            return pad_sequence((messages * pairs.weights).split(counts), batch_first=True).sum(dim=1)
        groups = messages.split(counts)
        if self.largest:
            return pad_sequence(groups, batch_first=True, padding_value=float("-inf")).amax(dim=1)
        total = pad_sequence(groups, batch_first=True).sum(dim=1)
        return total / torch.tensor(counts, device=total.device)[:, None, None, None]


def hearing_pairs(scene: SceneFeatures, towards_receiver: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of receiver i and sender j of every pair of agents in a scene, by receiver, and their matrices (P, 4, 4).

    Args:
        towards_receiver: take the matrices from j to i; else those from i to j.
    """
    if scene.pairwise is None:
        raise ValueError("this scene has no poses, so its agents cannot hear each other")
    here = scene.presence
    rows = torch.zeros(here.shape, dtype=torch.long)
    rows[here] = torch.arange(scene.agents)
    of_scene, i, j = (here[:, :, None] & here[:, None, :]).nonzero(as_tuple=True)
    first, second = (j, i) if towards_receiver else (i, j)
    return rows[of_scene, i], rows[of_scene, j], scene.pairwise[of_scene, first, second]
