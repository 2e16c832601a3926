"""What all rooms agree on about a batch: which entries live on the device and which stay host values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

# The host decides shapes and groupings from these; on the device every use of them would wait for it.
HOST_ENTRIES = frozenset({"record_len"})


def to_device(value: Any, device: torch.device | str) -> Any:
    """A copy of a nested batch with its tensors on the device, except the entries named in ``HOST_ENTRIES``."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: entry if key in HOST_ENTRIES else to_device(entry, device) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        moved = [to_device(entry, device) for entry in value]
        return moved if isinstance(value, list) else tuple(moved)
    return value
