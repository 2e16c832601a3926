"""How floating values are written: as they are, as shorter floats, or as 8 or 16 bit steps of their range."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOATS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
STEPS = {"int16": 16, "int8": 8}
PRECISIONS = (*FLOATS, *STEPS)
# Beside a tensor travels what its numbers mean: lowest and highest value, of each channel where there are steps.
RANGE = "{}@"


def narrow(tensors: Mapping[str, Tensor], precision: str, with_range: bool = False) -> dict[str, Tensor]:
    """The tensors as they are written.

    Steps divide the range of each channel: axis 1 of maps (n, C, H, W), the last axis of tables (n, C), the whole
    tensor where it has one axis.

    Args:
        with_range: shorter floats state the range of their tensor too, so that a receiver knows what is impossible.
    """
    written: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            written[name] = tensor
        elif precision in STEPS:
            limits = _limits(tensor)
            written[name], written[RANGE.format(name)] = _steps(tensor, limits, STEPS[precision]), limits
        else:
            dtype = FLOATS[precision]
            written[name] = tensor if dtype is None else tensor.to(dtype)
            if with_range:
                finite = tensor.nan_to_num(0.0, 0.0, 0.0)
                written[RANGE.format(name)] = torch.stack([finite.min(), finite.max()]).float()
    return written


def widen(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """The tensors that :func:`narrow` wrote, on the device and with the type that they have in ``like``."""
    read: dict[str, Tensor] = {}
    for name, model in like.items():
        tensor, limits = tensors[name], tensors.get(RANGE.format(name))
        if limits is not None:
            stepped = precision in STEPS
            tensor = _values(tensor, limits, STEPS[precision]) if stepped else _possible(tensor, limits)
        read[name] = tensor.to(device=model.device, dtype=model.dtype)
    return read


def _possible(tensor: Tensor, limits: Tensor) -> Tensor:
    """Values within their range; what is no number becomes 0."""
    low, high = limits.tolist()
    return tensor.nan_to_num(0.0).clamp(low, high)


def _limits(tensor: Tensor) -> Tensor:
    """(2, C) lowest and highest value of every channel, float32; (2, 1) for a tensor of one axis."""
    rows = _by_channel(tensor.float().nan_to_num(0.0))
    return torch.stack([rows.amin(dim=1), rows.amax(dim=1)])


def _steps(tensor: Tensor, limits: Tensor, bits: int) -> Tensor:
    low, step = _grid(limits, bits)
    rows = ((_by_channel(tensor.float().nan_to_num(0.0)) - low) / step).round().clamp(0, 2**bits - 1)
    if bits > 8:  # the format has no unsigned 16 bit numbers
        return _shaped((rows - 2 ** (bits - 1)).to(torch.int16), tensor.shape)
    return _shaped(rows.to(torch.uint8), tensor.shape)


def _values(tensor: Tensor, limits: Tensor, bits: int) -> Tensor:
    low, step = _grid(limits, bits)
    rows = _by_channel(tensor).float()
    return _shaped((rows + 2 ** (bits - 1) if bits > 8 else rows) * step + low, tensor.shape)


def _grid(limits: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Lowest value and step of every channel, each (C, 1)."""
    low, high = limits.unsqueeze(-1)
    step = (high - low) / (2**bits - 1)
    return low, torch.where(step > 0, step, torch.ones_like(step))


def _axis(dims: int) -> int:
    return 1 if dims > 3 else dims - 1


def _by_channel(tensor: Tensor) -> Tensor:
    """(C, everything else)."""
    if tensor.dim() < 2:
        return tensor.reshape(1, -1)
    return tensor.movedim(_axis(tensor.dim()), 0).flatten(1)


def _shaped(rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of :func:`_by_channel`."""
    if len(shape) < 2:
        return rows.reshape(shape)
    axis = _axis(len(shape))
    return rows.unflatten(1, [side for i, side in enumerate(shape) if i != axis]).movedim(0, axis).contiguous()
