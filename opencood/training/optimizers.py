"""Optimisers by the name of their class in ``torch.optim``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from opencood.errors import ConfigError, nearest
from opencood.registry import Entry, Registry

NEED_A_CLOSURE = {"LBFGS"}
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name: value
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value)
    and issubclass(value, torch.optim.Optimizer)
    and value is not torch.optim.Optimizer
    and name not in NEED_A_CLOSURE
}


def build_optimizer(model: torch.nn.Module, section: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Build ``optimizer`` over all parameters of the model, frozen ones included (they get no gradient and never move).

    ``codebook_lr_rate`` puts the parameters whose name contains ``codebook`` in a group of their own, at ``lr`` times
    that rate. Every group carries ``initial_lr``, the rate the schedule starts from. Source: spec config.md section
    4, tools.md section 2.

    Raises:
        ConfigError: no such class, no learning rate, or arguments the class refuses.
    """
    name = str(section.get("core_method", ""))
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"optimizer.core_method: '{name}' is no class of torch.optim that works here.{nearest(name, OPTIMIZERS)} "
            f"Valid names: {', '.join(sorted(OPTIMIZERS))}."
        )
    rate = section.get("lr")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise ConfigError(f"optimizer.lr: expected a number, found {rate!r}.")
    entry = Entry("optimizer", name, OPTIMIZERS[name])
    arguments = Registry.check_arguments(entry, section.get("args"), "optimizer.args", params=[], lr=float(rate))
    arguments["params"] = parameter_groups(model, float(rate), float(section.get("codebook_lr_rate", 1)))
    try:
        return entry.target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer.args: torch.optim.{name} refuses them: {error}") from error


def parameter_groups(model: torch.nn.Module, rate: float, codebook_rate: float = 1.0) -> list[dict[str, Any]]:
    """Parameters by learning rate: one group, or two when codebooks learn at ``rate * codebook_rate``."""
    named = list(model.named_parameters())
    if codebook_rate == 1.0:
        return [_group([parameter for _, parameter in named], rate)]
    codebook = [parameter for name, parameter in named if "codebook" in name]
    others = [parameter for name, parameter in named if "codebook" not in name]
    groups = [_group(others, rate), _group(codebook, rate * codebook_rate)]
    return [group for group in groups if group["params"]]


def set_rates(optimizer: torch.optim.Optimizer, rates: list[float]) -> None:
    """Set the learning rate of every parameter group."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _group(parameters: list[torch.nn.Parameter], rate: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "initial_lr": rate}
