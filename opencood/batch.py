"""What all rooms agree on about a batch: what lives on the device, what stays with the host, what is made late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

# The host decides shapes and groupings from these; on the device every use of them would wait for it.
HOST_ENTRIES = frozenset({"record_len"})
Device = torch.device | str


class Pending(Protocol):
    """Entries of a batch in a small form.

    Attributes:
        names: what it will be.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries, in order."""

    def make(self, device: Device) -> dict[str, Tensor]:
        """The entries, on a device."""


class Deferred(Mapping[str, Any]):
    """A part of a batch whose large entries are made when the first of them is asked for.

    What a loader's process sends is small, and what is dense is made where it is used, by ``to_device`` on the device.

    Args:
        ready: entries as they are.
        pending: those to come; None: nothing.
    """

    def __init__(self, ready: Mapping[str, Any], pending: Pending | None = None) -> None:
        self._ready = dict(ready)
        self._pending = pending

    def __iter__(self) -> Iterator[str]:
        names = () if self._pending is None else self._pending.names
        return iter(dict.fromkeys((*names, *self._ready)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._ready or (self._pending is not None and key in self._pending.names)

    def __getitem__(self, key: str) -> Any:
        if key not in self._ready and self._pending is not None and key in self._pending.names:
            self._ready = self.on("cpu")
            self._pending = None
        return self._ready[key]

    def __or__(self, other: Mapping[str, Any]) -> Deferred:
        return Deferred({**self._ready, **other}, self._pending)

    def on(self, device: Device) -> dict[str, Any]:
        """All entries, on a device."""
        made = {} if self._pending is None else self._pending.make(device)
        return {**made, **to_device(self._ready, device)}

    def pin_memory(self) -> Deferred:
        """The same for a faster copy to a GPU; what is pending is small."""
        pinned = {key: value.pin_memory() if isinstance(value, Tensor) else value for key, value in self._ready.items()}
        return Deferred(pinned, self._pending)


def to_device(value: Any, device: Device) -> Any:
    """A copy of a nested batch with its tensors on the device, except the entries named in ``HOST_ENTRIES``."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Deferred):
        return value.on(device)
    if isinstance(value, Mapping):
        return {key: entry if key in HOST_ENTRIES else to_device(entry, device) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        moved = [to_device(entry, device) for entry in value]
        return moved if isinstance(value, list) else tuple(moved)
    return value
