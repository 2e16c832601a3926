"""Two data sets side by side: every sample of the first comes with one of the second (domain adaptation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from opencood.data.frame import EGO

TARGET = "target_domain"


class PairedDataset(Dataset):
    """A labelled data set whose batches also hold a batch of another domain, under ``target_domain`` of the ego.

    Partners are drawn anew in every epoch, as a function of (seed, epoch, index); what is asked besides is what the
    labelled data set says.

    Args:
        source: gives samples, batches and labels.
        target: of the other domain; its labels are never looked at.
        seed: of the pairs.
    """

    def __init__(self, source: Any, target: Any, seed: int = 0) -> None:
        self.source, self.target, self.seed = source, target, seed
        self._pair(0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "source" not in self.__dict__:  # before anything is set (unpickling)
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the samples of both domains; either may be None, as each data set says."""
        return self.source[index], self.target[int(self._partner[index % len(self._partner)])]

    def reinitialize(self, epoch: int | None = None) -> None:
        """Start an epoch of both."""
        self.source.reinitialize(epoch)
        self.target.reinitialize(epoch)
        self._pair(self.source.epoch)

    def collate_batch_train(self, samples: Sequence[tuple[Any, Any]]) -> dict[str, dict[str, Any]] | None:
        """Return the batch of the source with that of the target in it, or None when one of them is empty."""
        whole = [pair for pair in samples if pair[0] is not None and pair[1] is not None]
        if not whole:
            return None
        batch = self.source.collate_batch_train([source for source, _ in whole])
        there = self.target.collate_batch_train([target for _, target in whole])
        return {EGO: {**batch[EGO], TARGET: there[EGO]}}

    def _pair(self, epoch: int) -> None:
        self._partner = np.random.default_rng((self.seed, epoch)).permutation(len(self.target))
