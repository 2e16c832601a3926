"""Tolerances and the comparison of one produced array with one stored array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tests.golden.arrays import PACKED, as_array, pack, parse_index, statistics

STATISTICS_RTOL, MEAN_ATOL = 1e-4, 1e-5
STATISTICS_SUFFIXES = ("__stats", "/stats")

# Families that write one plain number and mean it relatively for some outputs (golden README, section of the family).
RELATIVE_NUMBERS: dict[str, tuple[str, ...]] = {
    "gencomm": ("*loss*", "parts/*", "*grad*"),
    "codealign": ("grad_norm/*",),
}
# Row order is random by nature, so only the statistics of these arrays mean something.
STATISTICS_ONLY = {"data": ("*origin_lidar@s5",)}


@dataclass(frozen=True)
class Bound:
    """Allowed deviation: ``|got - want| <= atol + rtol |want|``, per element where arrays are given."""

    atol: float | np.ndarray = 0.0
    rtol: float = 0.0


@dataclass(frozen=True)
class Difference:
    """How far a produced array is from the stored one."""

    name: str
    worst: float
    index: tuple[int, ...]
    want: float
    got: float
    wrong: int
    size: int
    bound: Bound

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.wrong} of {self.size} differ, max |difference| {self.worst:.3g} "
            f"at {list(self.index)}: "
            f"want {self.want:.9g}, got {self.got:.9g} (atol {self.bound.atol:g}, rtol {self.bound.rtol:g})"
        )


class Tolerances:
    """The ``tolerance`` section of a case, asked per output name."""

    def __init__(self, meta: Mapping[str, Any], family: str) -> None:
        given = meta.get("tolerance", {})
        self._is_number = not isinstance(given, Mapping)
        self._table: dict[str, Any] = {"atol": given} if self._is_number else dict(given)
        self._gradient = meta.get("tolerance_grad")
        self._family = family

    def bound(self, name: str, want: np.ndarray) -> Bound:
        """Bound of the output ``name``; integers and booleans are exact."""
        if not np.issubdtype(want.dtype, np.floating):
            return Bound()
        if "grad_norm" in name:
            relative = self._table.get("grad_norm_rtol", self._gradient)
            if relative is not None:
                return Bound(rtol=float(relative))
        atol = float(self._table.get(f"{name}_atol", self._table.get("atol", 0)))
        if self._is_number and _matches(name, RELATIVE_NUMBERS.get(self._family, ())):
            return Bound(rtol=atol)
        return Bound(atol, float(self._table.get(f"{name}_rtol", self._table.get("rtol", 0))))

    def statistics(self) -> Bound:
        """Bound of [mean, std, sum of absolute values]."""
        rtol = STATISTICS_RTOL
        if self._family == "gencomm" and self._is_number:
            rtol = float(self._table["atol"])
        return Bound(np.array([MEAN_ATOL, 0.0, 0.0]), rtol)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_information(name: str, family: str) -> bool:
    """Whether a stored array is there to be read by people only."""
    return _matches(name, STATISTICS_ONLY.get(family, ()))


def is_statistics(name: str, family: str) -> bool:
    """Whether ``name`` holds [mean, std, sum of absolute values] of a larger array."""
    return name.endswith((*STATISTICS_SUFFIXES, "@stat")) or (family == "coopre" and name.endswith("_stats"))


def produced(name: str, got: Mapping[str, Any], meta: Mapping[str, Any]) -> np.ndarray | None:
    """The produced counterpart of the stored array ``name``, cut or packed like it; None when the runner gave nothing.

    Raises:
        ValueError: a produced array is not of the full shape it should be cut from.
    """
    if name in got:
        return _sliced(name, as_array(got[name]), meta)
    for suffix in STATISTICS_SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and base in got:
            return statistics(as_array(got[base]))
    packed = PACKED.match(name)
    if packed and packed["base"] in got:
        return pack(as_array(got[packed["base"]]), packed["kind"])
    base = name.removesuffix("/crop")
    if base != name and base in got:
        return as_array(got[base])[_crop_index(str(meta.get("crop", "")))]
    return None


def _sliced(name: str, array: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    part = meta.get("slices", {}).get(name)
    if part is not None:
        if list(array.shape) != list(part["full_shape"]):
            raise ValueError(f"{name}: full shape {list(array.shape)}, expected {part['full_shape']}")
        array = array[parse_index(part["stored"])]
    return compared_samples(array, meta)


def compared_samples(array: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """The rows of axis 0 that must agree; all unless the case names some."""
    rows = meta.get("compare_samples")
    return array if rows is None or array.ndim == 0 else array[list(rows)]


def _crop_index(text: str) -> tuple[Any, ...]:
    """Find the index expression in a sentence like ``<name>/crop = tensor[:, ::8]; ...``."""
    start = text.index("[")
    return parse_index(text[start : text.index("]", start) + 1])


def difference(
    name: str, want: np.ndarray, got: np.ndarray, bound: Bound, skip: Sequence[Any] = ()
) -> Difference | None:
    """First bad news about an array, or None when it agrees everywhere except at the indices of ``skip``.

    Raises:
        ValueError: shapes differ.
    """
    if want.shape != got.shape:
        raise ValueError(f"{name}: shape {list(got.shape)}, expected {list(want.shape)}")
    expected, actual = want.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(actual - expected)
        allowed = bound.atol + bound.rtol * np.abs(expected)
        same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        bad = ~(same | (distance <= allowed))
    for index in skip:
        bad[tuple(index) if isinstance(index, list | tuple) else index] = False
    if not bad.any():
        return None
    rank = np.where(bad, np.nan_to_num(distance, nan=np.inf, posinf=np.inf), -1.0)
    worst = np.unravel_index(int(rank.argmax()), rank.shape)
    place = tuple(int(i) for i in worst)
    there = Bound(float(np.broadcast_to(bound.atol, bad.shape)[worst]), bound.rtol)
    return Difference(
        name, float(rank[worst]), place, float(expected[worst]), float(actual[worst]), int(bad.sum()), bad.size, there
    )


def largest_distance(want: np.ndarray, got: np.ndarray) -> float:
    """Largest absolute difference between arrays of one shape, for reports; 0 when empty, NaNs left out."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(got.astype(np.float64) - want.astype(np.float64))
    return float(np.nanmax(distance)) if np.isfinite(distance).any() else 0.0
