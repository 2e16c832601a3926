"""What every encoder returns, and what those of voxels share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """A map (n, C, H, W) of n agents, and side outputs such as depth, by their published stem (``depth_items``)."""

    map: Tensor
    aux: Mapping[str, Any]


def agents_in(coords: Tensor, agents: int | None) -> int:
    """The number of agents when it is told, else up to the last one that has a cell in ``coords`` (M, 4)."""
    if agents is not None:
        return agents
    return int(coords[:, 0].max()) + 1 if len(coords) else 1
