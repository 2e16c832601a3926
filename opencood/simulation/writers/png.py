"""Pictures as PNG files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_FAST = 1  # sensor noise does not compress, so higher levels only take time
_FARTHEST = 255


def picture_bytes(picture: np.ndarray) -> bytes:
    """A PNG file of a picture (H, W, 3) RGB or (H, W) gray, uint8."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=_FAST)
    return stream.getvalue()


def depth_bytes(depth: np.ndarray) -> bytes:
    """A gray PNG file of depths (H, W): whole metres as in OPV2V-H; farther than 255 m, and the sky, is 255."""
    return picture_bytes(np.round(np.minimum(depth, _FARTHEST)).astype(np.uint8))
