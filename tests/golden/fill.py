"""Parameter values of the golden cases: every floating entry follows from its name and shape alone.

A case stores no weights. Whoever fills the same names and shapes by these rules gets the same network, so equal
arithmetic must give equal outputs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import numpy as np
import torch


def value_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of the ``state_dict`` entry ``name``: float32, or int64 zeros for ``num_batches_tracked``.

    The generator is seeded with the CRC of the name; the last part of the name and the number of axes decide the range.
    """
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    unit = np.random.default_rng(zlib.crc32(name.encode())).random(shape)
    return _scaled(unit, leaf, shape).astype(np.float32)


def _scaled(unit: np.ndarray, leaf: str, shape: tuple[int, ...]) -> np.ndarray:
    """Map uniform numbers in [0, 1) to the range of the entry."""
    small = (unit - 0.5) * 0.2
    if leaf == "running_mean":
        return small
    if leaf == "running_var":
        return unit + 0.5
    if len(shape) == 1 and leaf == "weight":
        return 1.0 + small
    if len(shape) <= 1:
        return small
    bound = math.sqrt(3.0 / math.prod(shape[1:]))
    return (unit * 2.0 - 1.0) * bound


def fill_entries(
    entries: Mapping[str, torch.Tensor],
    keep_as_built: Iterable[str] = (),
    overrides: Mapping[str, float] | None = None,
) -> None:
    """Fill tensors in place, in the given order (of tensors with several names the last one wins).

    Args:
        entries: published name -> tensor that shares memory with the module.
        keep_as_built: name patterns (``*`` allowed) that keep their constructed values.
        overrides: name pattern -> constant, applied instead of the rule.
    """
    kept = tuple(keep_as_built)
    constants = dict(overrides or {})
    with torch.no_grad():
        for name, tensor in entries.items():
            is_index_table = not tensor.dtype.is_floating_point and not name.endswith("num_batches_tracked")
            if is_index_table or any(fnmatchcase(name, pattern) for pattern in kept):
                continue
            constant = next((c for pattern, c in constants.items() if fnmatchcase(name, pattern)), None)
            if constant is None:
                tensor.copy_(torch.as_tensor(value_of(name, tuple(tensor.shape))))
            else:
                tensor.fill_(constant)
