"""V2VAM: criss-cross attention of the ego to every agent, then maximum and mean (spec homogeneous.md 3.7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opencood.models.scene import SceneFeatures
from opencood.registry import register


class CrissCross(nn.Module):
    """A cell of the query asks the cells of its column, its own left out, and of its row; one softmax over both.

    Keys ``gamma`` (1,), initially 0, and ``query_conv|key_conv|value_conv.{0,1}``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv, self.key_conv, self.value_conv = (_projection(channels) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        """Queries and what is asked, (N, C, H, W) each, to gamma * attention + x."""
        q, k, v = self.query_conv(query), self.key_conv(x), self.value_conv(x)
        rows = x.shape[-2]
        column = torch.einsum("nchw,ncjw->nhwj", q, k)
        itself = torch.eye(rows, dtype=torch.bool, device=x.device)[:, None, :]
        along_row = torch.einsum("nchw,nchj->nhwj", q, k)
        weights = torch.cat([column.masked_fill(itself, float("-inf")), along_row], dim=-1).softmax(dim=-1)
        heard = torch.einsum("nhwj,ncjw->nchw", weights[..., :rows], v)
        heard = heard + torch.einsum("nhwj,nchj->nchw", weights[..., rows:], v)
        return self.gamma * heard + x


@register("fusion", "v2vam")
class V2VAM(nn.Module):
    """Every agent as the ego's criss-cross attention sees it; their maximum plus their mean, through a convolution.

    Agents of one scene only: the published loop lets later scenes of a batch see those of earlier ones.

    Args:
        in_channels: channels of the map.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.cov_att = nn.Sequential(conv, nn.BatchNorm2d(in_channels, momentum=0.01), nn.ReLU())
        self.CCNet = CrissCross(in_channels)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        maps = scene.to_ego(scene.map)
        of_scene, _ = scene.places
        egos = maps[scene.egos][of_scene.to(maps.device)]
        seen = self.CCNet(egos, maps)
        strongest = scene.pad(seen, fill=float("-inf")).amax(dim=1)
        counts = torch.tensor(scene.record_len, device=maps.device)[:, None, None, None]
        return self.cov_att(strongest + scene.pad(seen).sum(dim=1) / counts)


def _projection(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels, momentum=0.01), nn.ReLU())
