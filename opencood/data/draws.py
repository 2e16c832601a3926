"""Randomness that is passed in: every draw of the data road comes from a ``Draws`` that the caller can rebuild."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Draws:
    """The two generators that the published draw orders need (spec data.md, section 12).

    Attributes:
        numpy: noise, permutations, augmentation; anything with the methods of ``numpy.random.RandomState``.
        python: agent order and modality choices; anything with the methods of ``random.Random``.
        key: what the generators were made from; empty where they were given from outside.
    """

    numpy: Any
    python: Any
    key: tuple[int, ...] = ()

    @classmethod
    def keyed(cls, seed: int, *key: int | str) -> Draws:
        """Return generators that depend on the seed and the key alone, such as ``(epoch, index)``."""
        words = (seed, *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key))
        sequence = np.random.SeedSequence(words)
        return cls(
            numpy=np.random.RandomState(np.random.MT19937(sequence)),
            python=random.Random(int.from_bytes(sequence.generate_state(4).tobytes(), "little")),
            key=words,
        )

    def child(self, *key: int | str) -> Draws:
        """Return further generators that depend on this key and ``key`` alone, not on what was drawn before.

        Whoever draws from a child changes nobody else's draws. Generators without a key have nothing to derive from:
        theirs are seeded by one draw.
        """
        base = self.key or (int(self.numpy.randint(0, 2**31 - 1)),)
        return Draws.keyed(base[0], *base[1:], *key)
