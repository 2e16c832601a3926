"""Picture files: PNG, JPEG and what else Pillow reads, from a folder or a packed store."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opencood.data import files
from opencood.data.png import decode_png
from opencood.errors import DataError

_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
# Pillow reports broken PNG chunks as SyntaxError.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_pixels(path: Path, mode: str) -> NDArray[np.uint8]:
    """Return the (H, W, C) pixels of a picture in mode ``RGB`` (C = 3) or ``L`` (C = 1).

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    try:
        loaded = files.load(path)
        if isinstance(loaded, np.ndarray):
            return _in_mode(loaded, mode)
        pixels = decode(loaded)
        if pixels is None:
            pixels = np.asarray(_opened(loaded).convert(mode))
        return _in_mode(pixels, mode)
    except _BROKEN as error:
        raise DataError(f"{path}: picture cannot be read ({error}); missing, truncated or corrupt file.") from error


def read_picture(path: Path, mode: str) -> Image.Image:
    """Return a decoded picture in a PIL mode (``RGB``, ``L``).

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    return as_image(read_pixels(path, mode))


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return (H, W, C) pixels as a picture; C = 1 grey, 3 RGB, 4 RGBA."""
    return Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0]))


def decode(content: bytes) -> NDArray[np.uint8] | None:
    """Return the (H, W, C) pixels of grey, RGB and RGBA pictures as they are; None for other kinds of pixels.

    Raises:
        OSError, SyntaxError, ValueError: no picture, or a broken one.
    """
    pixels = decode_png(content)
    if pixels is not None:
        return pixels
    with _opened(content) as picture:
        channels = _CHANNELS.get(picture.mode)
        if channels is None or "transparency" in picture.info:
            return None
        return np.asarray(picture).reshape(picture.height, picture.width, channels)


def first_existing(places: Sequence[Path]) -> Path:
    """Return the first of several places that exists, else the first (so that the error names it)."""
    return next((place for place in places if files.exists(place)), places[0])


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def _in_mode(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """The pixels as ``PIL.Image.convert`` gives them."""
    wanted = _CHANNELS[mode]
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    have = pixels.shape[2]
    if have == wanted:
        return pixels
    if wanted == 3:
        return np.repeat(pixels, 3, axis=2) if have == 1 else np.ascontiguousarray(pixels[:, :, :3])
    return np.asarray(as_image(pixels).convert(mode))[:, :, None]
