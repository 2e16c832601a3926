"""Frames that ``on_bad_frame: skip`` leaves out, counted across all loader processes."""

from __future__ import annotations

import torch


class LeftOut:
    """Which frames of a split were left out, and in which epoch last; lives in memory that all loader workers share.

    Args:
        frames: size of the split.
    """

    def __init__(self, frames: int) -> None:
        self._epochs = torch.zeros(frames, dtype=torch.int32).share_memory_()  # 0: never, else the epoch plus 1

    def grown(self, frames: int) -> LeftOut:
        """Return the same for a split that may have more frames; the length follows from who is ego."""
        if frames <= len(self._epochs):
            return self
        larger = LeftOut(frames)
        larger._epochs[: len(self._epochs)] = self._epochs
        return larger

    def add(self, index: int, epoch: int) -> bool:
        """Note a frame; returns whether it is the first time."""
        first = int(self._epochs[index]) == 0
        self._epochs[index] = epoch + 1
        return first

    def all_of(self, frames: int, epoch: int) -> bool:
        """Whether all of the first ``frames`` frames were left out in this epoch."""
        return bool((self._epochs[:frames] == epoch + 1).all())

    def indices(self) -> list[int]:
        """Every frame that was ever left out."""
        return self._epochs.nonzero()[:, 0].tolist()
