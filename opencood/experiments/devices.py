"""Where tensors live."""

from __future__ import annotations

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


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
