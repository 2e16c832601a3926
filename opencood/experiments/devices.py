"""Where tensors live."""

from __future__ import annotations

from typing import Any

import torch

from opencood.errors import ConfigError


def choose_device(name: str = "auto") -> torch.device:
    """The device of a run: ``auto`` takes CUDA when it works, else the CPU.

    Raises:
        ConfigError: the named device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"--device {name}: not usable here ({reason}). Use --device cpu or auto.") from error
    return device


def to_device(value: Any, device: torch.device) -> Any:
    """A copy of a nested batch with every tensor on ``device``; everything else stays as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    return value


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
