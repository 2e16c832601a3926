"""How a loss finds its inputs among the published (and older) output names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opencood.errors import ConfigError, nearest
from opencood.losses.parts import Outputs, Targets

LEGACY_NAMES = {"cls_preds": "psm", "reg_preds": "rm", "dir_preds": "dm", "unc_preds": "sm"}


def read(outputs: Outputs, name: str, suffix: str = "") -> Tensor:
    """Return an output map under its published or older name, at least in single precision.

    Raises:
        ConfigError: the detector gives no such output (the loss does not fit the model).
    """
    wanted = name + suffix
    candidates = [wanted, LEGACY_NAMES[name] + suffix] if name in LEGACY_NAMES else [wanted]
    for candidate in candidates:
        if outputs.get(candidate) is not None:
            return in_full_precision(outputs[candidate])
    raise ConfigError(
        f"loss.core_method: the loss needs the output '{wanted}', which the model does not give."
        f"{nearest(wanted, outputs)} Its outputs: {', '.join(sorted(map(str, outputs)))}."
    )


def in_full_precision(value: Tensor) -> Tensor:
    """Half-precision maps as float32, so that sums over a batch keep their digits; others as they are."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def count_samples(outputs: Outputs, targets: Targets) -> int:
    """What the published losses call the batch size (models.md 5)."""
    if "record_len" in outputs:
        return int(torch.as_tensor(outputs["record_len"]).sum())
    if "batch_size" in outputs:
        return int(outputs["batch_size"])
    return int(targets["pos_equal_one"].shape[0])


def number(section: dict[str, Any], key: str, where: str) -> float:
    """Return ``section[key]`` as a number.

    Raises:
        ConfigError: missing, or not a number.
    """
    if key not in section:
        raise ConfigError(f"{where}.{key}: missing.{nearest(key, section)} Expected a number.")
    value = section[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where}.{key}: expected a number, found {value!r}.")
    return float(value)
