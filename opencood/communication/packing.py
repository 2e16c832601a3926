"""Small integers as few bytes: bits side by side, or foreground cells under an entropy code. Both are lossless."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from opencood.errors import DataError

BITS = 8
STRONGEST = 9


def bits_for(words: int) -> int:
    """Bits of one of ``words`` words: ceil(log2 words), at least 1."""
    return max((words - 1).bit_length(), 1)


def pack(values: Tensor, bits: int) -> Tensor:
    """Integers (n, count) below 2**bits as bytes (n, ceil(count * bits / 8)), lowest bit first, on their device."""
    places = torch.arange(bits, device=values.device)
    digits = ((values.long().unsqueeze(-1) >> places) & 1).flatten(1)
    digits = torch.nn.functional.pad(digits, (0, -digits.shape[1] % BITS)).unflatten(1, (-1, BITS))
    weights = 2 ** torch.arange(BITS, device=values.device)
    return (digits * weights).sum(-1).to(torch.uint8)


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """The integers (n, count) that :func:`pack` made ``packed`` (n, bytes) of.

    Raises:
        DataError: there are not as many bytes as ``count`` integers need.
    """
    if packed.shape[1] != -(-count * bits // BITS):
        raise DataError(f"message: {packed.shape[1]} bytes are not {count} codes of {bits} bits; it is damaged.")
    places = torch.arange(BITS, device=packed.device)
    digits = ((packed.long().unsqueeze(-1) >> places) & 1).flatten(1)[:, : count * bits].unflatten(1, (-1, bits))
    return (digits << torch.arange(bits, device=packed.device)).sum(-1)


def squeeze(values: Tensor, words: int) -> bytes:
    """Integers (layers, cells) below ``words`` as few bytes as their statistics allow.

    Most cells of a map look alike. The commonest value of every layer is the background; of the other cells a mask
    and the values are kept, and all of it goes through an entropy coder.
    """
    values = values.cpu().long()
    counts = torch.stack([torch.bincount(layer, minlength=words) for layer in values])
    background = counts.argmax(dim=1)
    seen = (values != background[:, None]).any(dim=0)
    width = -(-bits_for(words) // BITS)
    plain = [_as_bytes(background, width), bytes(pack(seen[None], 1)[0].tolist()), _as_bytes(values[:, seen], width)]
    return zlib.compress(b"".join(plain), STRONGEST)


def expand(data: bytes, layers: int, cells: int, words: int) -> Tensor:
    """The integers (layers, cells) that :func:`squeeze` made ``data`` of.

    Raises:
        DataError: the bytes are damaged.
    """
    width = -(-bits_for(words) // BITS)
    mask_at, values_at = layers * width, layers * width + -(-cells // BITS)
    try:
        plain = zlib.decompressobj().decompress(data)  # what follows is filling
        seen = unpack(_bytes(plain[mask_at:values_at]).view(1, -1), cells, 1)[0].bool()
        values = _from_bytes(plain[:mask_at], width)[:, None].repeat(1, cells)
        values[:, seen] = _from_bytes(plain[values_at:], width).view(layers, -1)
    except (zlib.error, RuntimeError) as error:
        raise DataError(f"message: the codes cannot be read ({error}); it is damaged.") from error
    return values


def _as_bytes(values: Tensor, width: int) -> bytes:
    flat = values.reshape(-1, 1) >> (BITS * torch.arange(width))
    return (flat & 255).to(torch.uint8).numpy().tobytes()


def _from_bytes(data: bytes, width: int) -> Tensor:
    return (_bytes(data).long().view(-1, width) << (BITS * torch.arange(width))).sum(-1)


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
