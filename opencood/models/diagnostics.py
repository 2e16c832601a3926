"""Finding where a forward pass stops being finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def first_nonfinite_module(model: nn.Module, batch: Any) -> str | None:
    """Run the forward pass again and name the first module that makes NaN or Inf out of finite input.

    Meant for the moment a loss is not finite; it costs one forward pass with hooks, which are removed afterwards. The
    model keeps its mode; its batch statistics and the CPU's random generator end as they began.

    Returns:
        The state-dict name of the module, ``"input"`` when the batch itself is not finite, or None when all is finite.
    """
    if not _finite(batch):
        return "input"
    guilty: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not guilty and not _finite(output):
                guilty.append(name or type(model).__name__)

        return hook

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random_state = torch.get_rng_state()
    # children return before their parents, so the innermost guilty module is the first to be noticed
    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
        torch.set_rng_state(random_state)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    return guilty[0] if guilty else None


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(item) for item in value)
    return True
