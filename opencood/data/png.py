"""The common kinds of PNG, decoded faster than by Pillow, their plain twin; everything else is left to Pillow."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}  # colour type -> values per pixel: grey, RGB, RGBA
_LARGEST = 1 << 28  # bytes of a picture


def decode_png(content: bytes | memoryview) -> NDArray[np.uint8] | None:
    """Return the (H, W, C) pixels of a picture of 8 bits a channel: C = 1 grey, 3 RGB, 4 RGBA.

    None where the content is something else: other formats, palettes, 16 bits, interlaced, a transparent colour, or
    not whole.

    Raises:
        ValueError: the pixels are damaged, as their checksums say (Pillow does not look at them).
    """
    content = bytes(content)
    found = _chunks(content)
    if found is None:
        return None
    header, packed = found
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour, method, filtering, interlaced = header[8:13]
    channels = _CHANNELS.get(colour, 0)
    size = height * (width * channels + 1)
    if depth != 8 or method or filtering or interlaced or not channels or not width or not 0 < size <= _LARGEST:
        return None
    try:
        filtered = zlib.decompress(packed, bufsize=size)
    except zlib.error as error:
        raise ValueError(f"damaged pixels: {error}") from error
    pixels = np.empty((height, width * channels), np.uint8)
    if len(filtered) != size or not _undo_filters(np.frombuffer(filtered, np.uint8), pixels, channels):
        raise ValueError(f"damaged pixels: expected {size} bytes of rows with known filters, found {len(filtered)}")
    return pixels.reshape(height, width, channels)


def _chunks(content: bytes) -> tuple[bytes, bytes] | None:
    """The header and the joined compressed data; None unless the file is whole and holds nothing that changes them."""
    if not content.startswith(_SIGNATURE):
        return None
    packed: list[bytes] = []
    offset, header = len(_SIGNATURE), b""
    while offset + 12 <= len(content):
        length, kind = int.from_bytes(content[offset : offset + 4], "big"), content[offset + 4 : offset + 8]
        end = offset + 8 + length
        checksum = content[end : end + 4]
        if len(checksum) < 4:
            return None
        if zlib.crc32(content[offset + 4 : end]) != int.from_bytes(checksum, "big"):
            raise ValueError(f"damaged chunk {kind.decode('latin1')}: its checksum differs")
        if kind == b"IEND":
            return (header, b"".join(packed)) if len(header) == 13 else None
        if kind == b"IDAT":
            packed.append(content[offset + 8 : end])
        elif kind == b"IHDR" and not header:
            header = content[offset + 8 : end]
        elif kind[:1].isupper() or kind == b"tRNS":  # critical chunks, and a colour that is transparent
            return None
        offset = end + 4
    return None


@compiled
def _undo_filters(filtered: NDArray, pixels: NDArray, channels: int) -> bool:
    """Fill the rows of ``pixels`` (H, W C); False when a row has an unknown filter.

    Arithmetic is modulo 256; what lies outside of the picture counts as zero (PNG specification, section 9).
    """
    height, width = pixels.shape
    above = np.zeros(width, np.uint8)
    for y in range(height):
        start = y * (width + 1)
        kind, source, row = filtered[start], filtered[start + 1 : start + 1 + width], pixels[y]
        if kind == 0:
            row[:] = source
        elif kind == 1:  # the pixel to the left
            row[:channels] = source[:channels]
            for k in range(channels, width):
                row[k] = source[k] + row[k - channels]
        elif kind == 2:  # above
            for k in range(width):
                row[k] = source[k] + above[k]
        elif kind == 3:  # their mean
            for k in range(width):
                left = np.int64(row[k - channels]) if k >= channels else np.int64(0)
                row[k] = np.uint8(np.int64(source[k]) + ((left + np.int64(above[k])) >> 1))
        elif kind == 4:
            _undo_paeth(source, above, row, channels)
        else:
            return False
        above = row
    return True


@compiled
def _undo_paeth(source: NDArray, above: NDArray, row: NDArray, channels: int) -> None:
    """The neighbour (left, above, above left) nearest to left + above - above left, without branches."""
    for channel in range(channels):
        left, corner = np.int64(0), np.int64(0)
        for k in range(channel, len(row), channels):
            up = np.int64(above[k])
            off_left, off_up = up - corner, left - corner
            off_corner = off_left + off_up
            off_left, off_up, off_corner = _size(off_left), _size(off_up), _size(off_corner)
            second = up ^ ((up ^ corner) & ((off_corner - off_up) >> 63))
            smallest = off_up ^ ((off_up ^ off_corner) & ((off_corner - off_up) >> 63))
            nearest = left ^ ((left ^ second) & ((smallest - off_left) >> 63))
            left, corner = (np.int64(source[k]) + nearest) & 255, up
            row[k] = np.uint8(left)


@compiled
def _size(value: np.int64) -> np.int64:
    sign = value >> 63
    return (value ^ sign) - sign
