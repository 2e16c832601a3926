"""Small whole numbers as a stream of bits, so that a message costs what its content needs."""

from __future__ import annotations

import torch
from torch import Tensor

BYTE = 8


def width_of(count: int) -> int:
    """Bits that tell ``count`` different values apart, at least 1."""
    return max(1, (count - 1).bit_length())


def packed_size(values: int, width: int) -> int:
    """Bytes that ``values`` numbers of ``width`` bits take."""
    return (values * width + BYTE - 1) // BYTE


def pack_bits(values: Tensor, width: int) -> Tensor:
    """Whole numbers in [0, 2^width), any shape, as bytes (uint8), most significant bit first, the last byte padded."""
    bits = (values.reshape(-1, 1) >> _places(width, values)) & 1
    bits = bits.flatten()
    bits = torch.nn.functional.pad(bits, (0, -len(bits) % BYTE)).view(-1, BYTE)
    return (bits << _places(BYTE, bits)).sum(dim=1).to(torch.uint8)


def unpack_bits(data: Tensor, width: int, count: int) -> Tensor:
    """The first ``count`` numbers (count,) int64 of :func:`pack_bits`.

    Raises:
        ValueError: the bytes hold fewer.
    """
    if len(data) < packed_size(count, width):
        raise ValueError(f"{count} numbers of {width} bits need {packed_size(count, width)} bytes, not {len(data)}")
    bits = (data.long()[:, None] >> _places(BYTE, data)) & 1
    numbers = bits.flatten()[: count * width].view(count, width)
    return (numbers << _places(width, numbers)).sum(dim=1)


def _places(width: int, like: Tensor) -> Tensor:
    return torch.arange(width - 1, -1, -1, device=like.device)
