"""Bits that arrive wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BITS = 8


def flip_bits(
    tensors: Mapping[str, Tensor], exposed: Collection[str], error: float, generator: np.random.Generator, size: int
) -> dict[str, Tensor] | None:
    """The tensors with every bit of the exposed ones flipped with probability ``error``; None when the rest is damaged.

    What is not exposed (sizes, masks, places, headers) makes sense only as a whole: a wrong bit in it is noticed by a
    checksum, and the message is thrown away.

    Args:
        tensors: on the CPU.
        size: bytes of the whole message.
    """
    contents = {name: tensors[name].numel() * tensors[name].element_size() for name in exposed}
    rest = (size - sum(contents.values())) * BITS
    if generator.random() < -np.expm1(rest * np.log1p(-error)):
        return None
    damaged = dict(tensors)
    for name, count in contents.items():
        places = wrong_bits(count * BITS, error, generator)
        if not len(places):
            continue
        plain = tensors[name].contiguous().clone()
        content = plain.reshape(-1).view(torch.uint8).numpy()
        np.bitwise_xor.at(content, places // BITS, (1 << (places % BITS)).astype(np.uint8))
        damaged[name] = plain
    return damaged


def wrong_bits(count: int, error: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of the wrong ones among ``count`` bits, each wrong with probability ``error`` (0 to 1, excluded)."""
    # distances between wrong bits are geometric, so the cost follows their number and not that of all bits
    places = np.zeros(0, np.int64)
    last = -1
    while last < count:
        expected = (count - last) * error
        gaps = generator.geometric(error, size=int(expected + 6 * expected**0.5) + 8)
        more = last + np.cumsum(gaps)
        places, last = np.concatenate([places, more]), int(more[-1])
    return places[places < count]
