"""What every encoder returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """A map (n, C, H, W) of n agents, and side outputs such as depth, by their published stem (``depth_items``)."""

    map: Tensor
    aux: Mapping[str, Any]
