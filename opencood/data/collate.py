"""Samples -> batch: stacking and joining of entries; nothing here knows a sample class (spec data.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.batch import Deferred
from opencood.data.draws import Draws

Entry = Mapping[str, Any]


def stacked(entries: Iterable[Entry], key: str) -> torch.Tensor:
    """One array per entry along a new first axis."""
    return torch.from_numpy(np.stack([entry[key] for entry in entries]))


def joined(entries: Iterable[Entry], key: str) -> torch.Tensor:
    """The rows of all entries one after the other."""
    return torch.from_numpy(np.concatenate([entry[key] for entry in entries]))


def labels(entries: Sequence[Entry], postprocessor: Any) -> dict[str, Any] | Deferred:
    """``targets``, ``pos_equal_one``, ``neg_equal_one`` and ``more_labels`` of several entries.

    Empty where there is no ground truth.
    """
    if not all("label_dict" in entry for entry in entries):
        return {}
    more = [entry.get("more_labels", {}) for entry in entries]
    joined = postprocessor.collate_batch([entry["label_dict"] for entry in entries])
    return joined | {key: stacked(more, key) for key in more[0]}


def boxes(entries: Sequence[Entry], suffix: str = "") -> dict[str, torch.Tensor]:
    """``object_bbx_center`` (B, M, 7) and ``object_bbx_mask`` (B, M), with a suffix; empty without ground truth."""
    names = ("object_bbx_center", "object_bbx_mask")
    return {name + suffix: stacked(entries, name) for name in names if all(name in entry for entry in entries)}


def raw_clouds(entries: Sequence[Entry], draws: Draws) -> torch.Tensor:
    """``origin_lidar`` (B, N, C): every cloud drawn down to the size of the smallest one."""
    clouds: list[NDArray[np.float32]] = [entry["origin_lidar"] for entry in entries]
    smallest = min(map(len, clouds))
    chosen = [cloud[draws.numpy.choice(len(cloud), smallest, replace=False)] for cloud in clouds]
    return torch.from_numpy(np.stack(chosen))


def identity() -> torch.Tensor:
    """(4, 4) float32: a sample that already lives in the ego's frame."""
    return torch.eye(4, dtype=torch.float32)
