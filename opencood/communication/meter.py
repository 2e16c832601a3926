"""Counts what went over the channel."""

from __future__ import annotations

from collections import Counter

BITS_PER_MEGABIT = 1_000_000


class Meter:
    """Bytes per frame and per link (scene, sender, receiver).

    Every frame must be announced with :meth:`start_frame`; a frame in which nothing was sent counts as zero.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.total_bytes = 0
        self.messages = 0
        self.links: Counter[tuple[int, int, int]] = Counter()

    def start_frame(self) -> None:
        """Begin the next frame; :attr:`links` and :meth:`bytes_of_frame` speak of it from now on."""
        self.frames += 1
        self.links.clear()

    def record(self, size: int, sender: int, receiver: int, scene: int = 0) -> None:
        """Add a message of ``size`` bytes."""
        self.links[scene, sender, receiver] += size
        self.total_bytes += size
        self.messages += 1

    def bytes_of_frame(self) -> int:
        """Bytes sent by all agents in the current frame."""
        return sum(self.links.values())

    def megabits_per_frame(self) -> float:
        """Mean over all frames so far, in 10^6 bits; 0.0 before the first frame."""
        if self.frames == 0:
            return 0.0
        return self.total_bytes * 8 / BITS_PER_MEGABIT / self.frames
