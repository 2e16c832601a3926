"""Decoding and resizing agree with Pillow to the byte, whatever the picture."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opencood.data.draws import Draws
from opencood.data.images import ImageTransform, build_image_augmentation, image_planes, normalised
from opencood.data.pictures import as_image, decode, read_picture, read_pixels
from opencood.data.png import decode_png
from opencood.data.resize import resized
from opencood.errors import DataError

SIDES = st.integers(1, 70)
CHANNELS = st.sampled_from([1, 3, 4])


def picture(seed: int, height: int, width: int, channels: int, contrast: bool = False) -> np.ndarray:
    """Noise over a slope, or noise of full contrast, whose sums leave the range of a byte."""
    random = np.random.default_rng(seed)
    if contrast:
        return random.choice(np.array([0, 255], np.uint8), (height, width, channels))
    slope = np.add.outer(np.arange(height), 2 * np.arange(width))[..., None] + 50 * np.arange(channels)
    return (slope + random.integers(0, 9, slope.shape)).astype(np.uint8)


@given(st.integers(0, 9999), SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]), st.booleans())
def test_resizing(seed: int, height: int, width: int, to_height: int, to_width: int, channels: int, odd: bool) -> None:
    pixels = picture(seed, height, width, channels, contrast=odd)
    wanted = np.asarray(as_image(pixels).resize((to_width, to_height))).reshape(to_height, to_width, channels)
    np.testing.assert_array_equal(resized(pixels, (to_width, to_height)), wanted)
    by_column = np.ascontiguousarray(pixels.transpose(1, 0, 2)).transpose(1, 0, 2)
    np.testing.assert_array_equal(resized(by_column, (to_width, to_height)), wanted)


@given(st.integers(0, 9999), st.booleans())
def test_a_transform_of_pixels_is_that_of_the_picture(seed: int, turned: bool) -> None:
    conf = {
        "resize_lim": [0.5, 1.2], "final_dim": [40, 60], "rot_lim": [-9, 9] if turned else [0, 0], "H": 64, "W": 90,
        "rand_flip": True, "bot_pct_lim": [0.0, 0.5], "cams": ["camera0"],
    }  # fmt: skip
    transform = build_image_augmentation(conf, "here").draw(True, Draws.keyed(seed))
    for channels in (1, 3):
        pixels = picture(seed, 64, 90, channels)
        wanted = np.asarray(transform.apply(as_image(pixels))).reshape(40, 60, channels)
        np.testing.assert_array_equal(transform.applied(pixels), wanted)


def test_a_crop_beside_the_picture_is_black() -> None:
    transform = ImageTransform(1.0, (8, 6), (20, 20, 25, 24), flip=False, rotate=0.0)
    assert not transform.applied(picture(0, 6, 8, 3)).any()


def test_planes_are_normalised_colours_and_metres() -> None:
    pixels = picture(3, 20, 30, 4)
    planes = image_planes(np.stack([pixels[None], pixels[None] // 2]))
    assert planes.shape == (2, 1, 4, 20, 30) and planes.dtype == np.float32
    assert planes[0, 0, :3].tobytes() == np.ascontiguousarray(normalised(as_image(pixels[:, :, :3]))).tobytes()
    np.testing.assert_array_equal(planes[1, 0, 3], pixels[:, :, 3] // 2)


@given(st.integers(0, 9999), SIDES, SIDES, CHANNELS, st.booleans())
def test_png_with_the_filters_of_pillow(seed: int, height: int, width: int, channels: int, contrast: bool) -> None:
    pixels = picture(seed, height, width, channels, contrast)
    buffer = io.BytesIO()
    as_image(pixels).save(buffer, "PNG")
    np.testing.assert_array_equal(decode_png(buffer.getvalue()), pixels)


@given(st.data(), SIDES, SIDES, CHANNELS)
def test_png_with_any_filters(data: st.DataObject, height: int, width: int, channels: int) -> None:
    kinds = np.array(data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height)), np.uint8)
    rows = np.random.default_rng(height).integers(0, 256, (height, width * channels), np.uint8)
    content = png(np.concatenate([kinds[:, None], rows], axis=1).tobytes(), width, height, channels)
    wanted = np.asarray(Image.open(io.BytesIO(content))).reshape(height, width, channels)
    np.testing.assert_array_equal(decode_png(content), wanted)


def png(filtered: bytes, width: int, height: int, channels: int) -> bytes:
    colour = {1: 0, 3: 2, 4: 6}[channels]
    packed = zlib.compress(filtered)
    half = len(packed) // 2
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        (b"tEXt", b"made\0by a test"),
        (b"IDAT", packed[:half]),
        (b"IDAT", packed[half:]),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("mode", ["P", "1", "I;16", "LA"])
def test_other_pictures_are_left_to_pillow(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(picture(0, 12, 9, 1)[:, :, 0])
    image = Image.fromarray(np.arange(108, dtype=np.uint16).reshape(12, 9)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.png")
    assert decode_png((tmp_path / "a.png").read_bytes()) is None
    for wanted in ("RGB", "L"):
        with Image.open(tmp_path / "a.png") as opened:
            np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "a.png", wanted)), opened.convert(wanted))


def test_jpeg_and_grey_for_colour(tmp_path: Path) -> None:
    as_image(picture(0, 16, 24, 3)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as opened:
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.jpg", "RGB"), np.asarray(opened))
    as_image(picture(0, 16, 24, 1)).save(tmp_path / "grey.png")
    found = read_pixels(tmp_path / "grey.png", "RGB")
    assert found.shape == (16, 24, 3) and (found[..., 0] == found[..., 2]).all()


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_in_the_pixels_is_refused(position: int, bit: int) -> None:
    pixels = picture(1, 20, 30, 3)
    content = bytearray(png(np.pad(pixels.reshape(20, 90), ((0, 0), (1, 0))).tobytes(), 30, 20, 3))
    first, last = content.index(b"IDAT"), content.index(b"IEND") - 4
    content[first + 4 + position % (last - first - 4)] ^= 1 << bit
    with pytest.raises((ValueError, OSError, SyntaxError)):
        decode(bytes(content))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"no picture at all"])
def test_no_picture_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: picture cannot be read"):
        read_pixels(tmp_path / "a.png", "RGB")
