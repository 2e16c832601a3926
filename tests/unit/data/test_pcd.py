"""Point clouds from files: every encoding gives the same points, every damage one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from opencood.data.lzf import lzf_decode
from opencood.data.pcd import read_bin, read_pcd, read_points
from opencood.errors import DataError
from tests.unit.data.conftest import cloud, lzf_encode

POINTS = cloud(257, seed=3)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("kind", ["F", "U"])
def test_every_encoding_and_type_of_rgb_gives_the_same_cloud(
    tmp_path: Path, pcd: Callable[..., bytes], encoding: str, kind: str
) -> None:
    file = tmp_path / "a.pcd"
    file.write_bytes(pcd(POINTS, encoding, kind))
    found = read_points(file)
    assert found.dtype == np.float32
    assert_array_equal(found, POINTS)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_plain_intensity_is_kept_as_it_is(tmp_path: Path, pcd: Callable[..., bytes], encoding: str) -> None:
    points = POINTS.copy()
    points[:, 3] *= 256
    (tmp_path / "a.pcd").write_bytes(pcd(points, encoding, field="intensity"))
    assert_array_equal(read_points(tmp_path / "a.pcd"), points)


def test_fields_of_other_sizes_and_counts(tmp_path: Path) -> None:
    row = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "u1"), ("time", "<f8"), ("n", "<i2", 3)])
    rows = np.zeros(5, row)
    rows["x"], rows["intensity"], rows["time"], rows["n"] = np.arange(5), 254, 1.5, [1, -2, 3]
    header = (
        b"VERSION 0.7\nFIELDS x y z intensity time n\nSIZE 4 4 4 1 8 2\nTYPE F F F U F I\nCOUNT 1 1 1 1 1 3\n"
        b"WIDTH 5\nHEIGHT 1\nPOINTS 5\nDATA binary\n"
    )
    (tmp_path / "a.pcd").write_bytes(header + rows.tobytes())
    columns = read_pcd(tmp_path / "a.pcd")
    assert_array_equal(columns["n"], rows["n"])
    assert columns["time"].tolist() == [1.5] * 5
    assert read_points(tmp_path / "a.pcd")[:, 3].tolist() == [254.0] * 5


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=600), st.builds(lambda a, n: a * n, st.binary(min_size=1, max_size=9), st.integers(0, 400))
    )
)
def test_lzf_undoes_the_coder(plain: bytes) -> None:
    assert lzf_decode(lzf_encode(plain), len(plain)) == plain


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_lzf_agrees_with_a_plain_decoder_on_any_bytes(stream: bytes, size: int) -> None:
    expected = plain_lzf(stream, size)
    if expected is None:
        with pytest.raises(ValueError, match="expected"):
            lzf_decode(stream, size)
    else:
        assert lzf_decode(stream, size) == expected


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_a_truncated_file_says_what_is_missing(tmp_path: Path, pcd: Callable[..., bytes], encoding: str) -> None:
    content = pcd(POINTS, encoding)
    (tmp_path / "a.pcd").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.pcd: truncated point cloud: expected \d+ .*found"):
        read_points(tmp_path / "a.pcd")


def test_a_damaged_compressed_body(tmp_path: Path, pcd: Callable[..., bytes]) -> None:
    content = bytearray(pcd(POINTS, "binary_compressed"))
    start = content.index(b"DATA") + len(b"DATA binary_compressed\n") + 8
    content[start] = 0xFF  # a reference to before the beginning
    (tmp_path / "a.pcd").write_bytes(bytes(content))
    with pytest.raises(DataError, match="corrupt compressed"):
        read_points(tmp_path / "a.pcd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"FIELDS x y z rgb", b"FIELDS x y q rgb"), "no field z"),
        ((b"FIELDS x y z rgb", b"FIELDS x y z ring"), "no intensity"),
        ((b"SIZE 4 4 4 4", b"SIZE 4 4 4"), "unreadable PCD header"),
        ((b"TYPE F F F U", b"TYPE F F F X"), "unreadable PCD header"),
        ((b"DATA ascii", b"DATA zip"), "unreadable PCD header"),
        ((b"POINTS 257", b"POINTS many"), "unreadable PCD header"),
        ((b"DATA ascii", b""), "no PCD header"),
        ((b"\n", b"\nx", 12), "is no number|no PCD header"),
    ],
)
def test_a_damaged_header_or_body(
    tmp_path: Path, pcd: Callable[..., bytes], change: tuple[bytes, ...], message: str
) -> None:
    content = pcd(POINTS, "ascii")
    if len(change) == 3:
        body = content.index(b"DATA ascii\n") + len(b"DATA ascii\n")
        content = content[: body + change[2]] + b"oops " + content[body + change[2] :]
    else:
        content = content.replace(*change)
    (tmp_path / "a.pcd").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_points(tmp_path / "a.pcd")


def test_missing_file_and_empty_cloud(tmp_path: Path, pcd: Callable[..., bytes]) -> None:
    with pytest.raises(DataError, match=r"none\.pcd: cannot be read"):
        read_points(tmp_path / "none.pcd")
    (tmp_path / "empty.pcd").write_bytes(pcd(POINTS[:0]))
    with pytest.raises(DataError, match="no valid point"):
        read_points(tmp_path / "empty.pcd")


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_invalid_numbers_are_refused_or_left_out(tmp_path: Path, pcd: Callable[..., bytes], encoding: str) -> None:
    points = POINTS.copy()
    points[5, 1], points[9, 0] = np.nan, np.inf
    (tmp_path / "a.pcd").write_bytes(pcd(points, encoding))
    with pytest.raises(DataError, match="2 of 257 points are NaN or infinite"):
        read_points(tmp_path / "a.pcd")
    assert_array_equal(read_points(tmp_path / "a.pcd", drop_invalid=True), np.delete(POINTS, [5, 9], axis=0))


def test_raw_files(tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(4, 5)
    (tmp_path / "a.bin").write_bytes(rows.tobytes())
    assert_array_equal(read_bin(tmp_path / "a.bin", columns=5), rows[:, :4])
    with pytest.raises(DataError, match="not a whole number of points"):
        read_bin(tmp_path / "a.bin", columns=6)


def plain_lzf(stream: bytes, size: int) -> bytes | None:
    """LZF as its description reads; None where the stream is damaged or gives another size."""
    out, at = bytearray(), 0
    try:
        while at < len(stream):
            control = stream[at]
            at += 1
            if control < 32:
                piece = stream[at : at + control + 1]
                if len(piece) < control + 1:
                    return None
                out += piece
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += stream[at]
                at += 1
            start = len(out) - ((control & 31) << 8) - stream[at] - 1
            at += 1
            if start < 0:
                return None
            for _ in range(length + 2):
                out.append(out[start])
                start += 1
    except IndexError:
        return None
    return bytes(out) if len(out) == size else None
