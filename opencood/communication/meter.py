"""Counts what went over the channel."""

from __future__ import annotations

from collections import Counter

BITS_PER_MEGABIT = 1_000_000


class Meter:
    """Bytes per frame and per link (scene, sender, receiver).

    Every frame must be announced with :meth:`start_frame`; a frame in which nothing was sent counts as zero.

    Attributes:
        lost: messages that were sent and did not arrive, or arrived so that nobody could read them.
        withheld: messages that were not sent because they did not fit the budget.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.total_bytes = 0
        self.messages = 0
        self.lost = 0
        self.withheld = 0
        self._sent: Counter[tuple[int, int, int]] = Counter()
        self.links: Counter[tuple[int, int, int]] = Counter()

    def start_frame(self) -> None:
        """Begin the next frame; :attr:`links` and :meth:`bytes_of_frame` speak of it from now on."""
        self.frames += 1
        self.links.clear()
        self._sent.clear()

    def record(self, size: int, sender: int, receiver: int, scene: int = 0) -> None:
        """Add a message of ``size`` bytes."""
        self.links[scene, sender, receiver] += size
        self._sent[scene, sender, receiver] += 1
        self.total_bytes += size
        self.messages += 1

    def sent_over(self, sender: int, receiver: int, scene: int = 0) -> int:
        """Messages that went over a link in the current frame."""
        return self._sent[scene, sender, receiver]

    def bytes_of_frame(self) -> int:
        """Bytes sent by all agents in the current frame."""
        return sum(self.links.values())

    def megabits_per_frame(self) -> float:
        """Mean over all frames so far, in 10^6 bits; 0.0 before the first frame."""
        if self.frames == 0:
            return 0.0
        return self.total_bytes * 8 / BITS_PER_MEGABIT / self.frames
