"""Where the precision of the network around must not reach."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def own_precision(like: Tensor) -> AbstractContextManager[object]:
    """A block whose operations keep the precision of their operands, on the device of ``like``."""
    device = like.device.type
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
