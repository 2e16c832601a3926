"""LZF decompression, the coding of ``DATA binary_compressed`` point clouds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

_LITERAL_LIMIT = 32  # control bytes below it announce control + 1 literal bytes
_LONG_LENGTH = 7  # a length of 7 is continued in the next byte


def lzf_decode(compressed: bytes | NDArray[np.uint8], size: int) -> bytes:
    """Return the decompressed bytes.

    Args:
        compressed: LZF stream.
        size: length of the decompressed data in bytes.

    Raises:
        ValueError: the stream is damaged, or does not give exactly ``size`` bytes.
    """
    source = np.frombuffer(compressed, np.uint8)
    target = np.empty(size, np.uint8)
    written = int(_decode(source, target))
    if written != size:
        found = "a damaged stream" if written < 0 else f"{written} bytes"
        raise ValueError(f"expected {size} decompressed bytes, found {found}")
    return target.tobytes()


@compiled
def _decode(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> np.int64:
    """Fill ``target``; returns the bytes written, or -1 when the stream reaches outside of either array."""
    read, written = np.int64(0), np.int64(0)
    while read < source.size:
        control = np.int64(source[read])
        read += np.int64(1)
        if control < _LITERAL_LIMIT:
            length = control + np.int64(1)
            if read + length > source.size or written + length > target.size:
                return np.int64(-1)
            target[written : written + length] = source[read : read + length]
            read += length
        else:
            length = control >> 5
            if length == _LONG_LENGTH:
                if read >= source.size:
                    return np.int64(-1)
                length += np.int64(source[read])
                read += np.int64(1)
            length += np.int64(2)
            if read >= source.size:
                return np.int64(-1)
            start = written - ((control & 31) << 8) - np.int64(source[read]) - 1
            read += np.int64(1)
            if start < 0 or written + length > target.size:
                return np.int64(-1)
            for step in range(length):  # source and target may overlap, so byte by byte
                target[written + step] = target[start + step]
        written += length
    return written
