"""Pictures as files."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

_FARTHEST = 255  # metres that a byte of depth can say
_JPEG_QUALITY = 92


def png_bytes(image: np.ndarray) -> bytes:
    """A PNG file of (H, W, 3) RGB or (H, W) gray uint8."""
    return _encoded(image, format="PNG", compress_level=1)


def jpeg_bytes(image: np.ndarray) -> bytes:
    """A JPEG file of (H, W, 3) uint8 RGB."""
    return _encoded(image, format="JPEG", quality=_JPEG_QUALITY)


def depth_bytes(depth: np.ndarray) -> bytes:
    """A PNG file of (H, W) depth in whole metres, as in OPV2V-H; beyond 255 m is 255 (data.md, section 2.2)."""
    return png_bytes(np.clip(np.round(depth), 0, _FARTHEST).astype(np.uint8))


def _encoded(image: np.ndarray, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()
