"""Which sample is used when, and with which random numbers: functions of (seed, epoch, step, rank) alone.

Nothing here has a state, so a resumed run walks the very same road, from any step on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

Batches = list[list[int]]
Collate = Callable[[list[Any]], Any]


def shuffled(length: int, seed: int, epoch: int) -> list[int]:
    """The order of ``length`` samples in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(length).tolist()


def training_batches(order: Sequence[int], batch_size: int, rank: int = 0, world_size: int = 1) -> Batches:
    """Batches of one rank; ranks share consecutive samples, and what fills no batch on every rank is dropped.

    The ranks' batches k together are batch k of one process with ``world_size`` times the batch size.
    """
    together = batch_size * world_size
    starts = range(rank * batch_size, len(order) // together * together, together)
    return [list(order[start : start + batch_size]) for start in starts]


def validation_batches(order: Sequence[int], batch_size: int, drop_last: bool = False) -> Batches:
    """Consecutive batches; the last one may be smaller, or is dropped."""
    end = len(order) // batch_size * batch_size if drop_last else len(order)
    return [list(order[start : min(start + batch_size, end)]) for start in range(0, end, batch_size)]


class WithoutMissing:
    """A collate function that leaves out samples that are None, and gives None when none is left."""

    def __init__(self, collate: Collate):
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        present = [sample for sample in samples if sample is not None]
        return self.collate(present) if present else None


def load(dataset: Any, batches: Batches, collate: Collate, workers: int = 0, pinned: bool = False) -> Iterable[Any]:
    """Load batches in order, in ``workers`` processes; draws nothing from the global generators."""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=WithoutMissing(collate),
        num_workers=min(workers, len(batches)),
        pin_memory=pinned,
        generator=generator,
    )


def seed_draws(*key: int) -> None:
    """Seed Python's, NumPy's and torch's global generators; what a model draws in a step follows from ``key``."""
    state = [int(word) for word in np.random.SeedSequence(key).generate_state(3)]
    random.seed(state[0])
    np.random.seed(state[1])
    torch.manual_seed(state[2])
