"""Values that are not compared numerically: normalised, described, shortened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tests.golden.arrays import as_array


def plain(value: Any) -> Any:
    """Tensors, arrays, tuples and NumPy scalars as lists and numbers; sets sorted; mapping keys as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return as_array(value).tolist()
    return value


def shorten(value: Any, limit: int = 300) -> str:
    """Text of a value, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def describe(value: Any) -> str:
    """``dtype [shape]`` of an array, as ``expect_keys`` writes it."""
    array = as_array(value)
    return f"{array.dtype} {list(array.shape)}"
