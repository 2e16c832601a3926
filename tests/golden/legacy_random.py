"""Random streams of the legacy global generators, as objects."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class LegacyRandom:
    """Seeded generators with the streams of the legacy global ones, for cases whose numbers depend on the draw order.

    ``numpy`` has RandomState's methods, ``python`` those of ``random.Random``; ``seed`` restarts both, and torch.
    """

    numpy: np.random.RandomState = field(default_factory=lambda: np.random.RandomState(0))
    python: random.Random = field(default_factory=lambda: random.Random(0))

    def seed(self, seed: int | None) -> None:
        """Restart every stream as ``seed`` does in the reference; None leaves them as they are."""
        if seed is not None:
            self.numpy.seed(seed)
            self.python.seed(seed)
            torch.manual_seed(seed)
