"""Learning-rate schedules as pure functions of the epoch.

A schedule gives the rate at a *closed-form epoch* k (a float: a fraction of an epoch is legal); ``closed_form_epoch``
says which k an epoch of a run uses. Published trainers step the schedule after an epoch, so epoch e runs with the
value for e - 1, and every drop comes one epoch later than its milestone suggests. Source: spec tools.md section 2,
e2e.md "Learning rate facts".
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from opencood.errors import ConfigError
from opencood.registry import REGISTRY, register


class Schedule(Protocol):
    """A rate as a function of the base rate and the closed-form epoch."""

    def __call__(self, base: float, epoch: float) -> float:
        """Rate at a closed-form epoch (0 is the start)."""
        ...


@register("scheduler", "step")
@dataclass(frozen=True)
class Step:
    """The rate falls by ``gamma`` every ``step_size`` epochs."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.step_size < 1:
            raise ConfigError(f"lr_scheduler.step_size: 'step' needs at least one epoch, found {self.step_size}.")

    def __call__(self, base: float, epoch: float) -> float:
        """Rate at a closed-form epoch."""
        return base * self.gamma ** (epoch // self.step_size)


@register("scheduler", "multistep")
@dataclass(frozen=True)
class MultiStep:
    """The rate falls by ``gamma`` at each epoch listed in ``step_size``."""

    step_size: Sequence[int]
    gamma: float = 0.1

    def __call__(self, base: float, epoch: float) -> float:
        """Rate at a closed-form epoch."""
        return base * self.gamma ** bisect_right(sorted(self.step_size), epoch)


@register("scheduler", "exponential", ignores=["step_size"])
@dataclass(frozen=True)
class Exponential:
    """The rate falls by ``gamma`` every epoch."""

    gamma: float

    def __call__(self, base: float, epoch: float) -> float:
        """Rate at a closed-form epoch."""
        return base * self.gamma**epoch


@register("scheduler", "cosineannealwarm", ignores=["gamma", "step_size"])
@dataclass(frozen=True)
class CosineAnnealWarm:
    """Linear warm-up from ``warmup_lr``, then a cosine to ``lr_min`` whose epochs count from the start."""

    epoches: float
    warmup_lr: float
    warmup_epoches: float
    lr_min: float

    def __call__(self, base: float, epoch: float) -> float:
        """Rate at a closed-form epoch."""
        if epoch < self.warmup_epoches:
            return self.warmup_lr + epoch * (base - self.warmup_lr) / self.warmup_epoches
        progress = min(epoch / self.epoches, 1.0)
        return self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * progress))


@register("scheduler", "constant")
@dataclass(frozen=True)
class Constant:
    """The rate never changes."""

    def __call__(self, base: float, epoch: float) -> float:
        """Rate at a closed-form epoch."""
        return base


def build_schedule(section: Mapping[str, Any] | None) -> Schedule:
    """Build ``lr_scheduler``; without the section the rate is constant.

    Raises:
        ConfigError: unknown ``core_method`` (with the nearest valid one), missing or ill-typed arguments.
    """
    if not section:
        return Constant()
    if "core_method" not in section:
        raise ConfigError(f"lr_scheduler.core_method: missing. Valid names: {', '.join(REGISTRY.names('scheduler'))}.")
    name = str(section["core_method"])
    REGISTRY.get("scheduler", name, where="lr_scheduler.core_method")
    arguments = {key: value for key, value in section.items() if key not in ("core_method", "per")}
    return REGISTRY.build("scheduler", name, arguments, where="lr_scheduler")


def closed_form_epoch(epoch: int, first_epoch: int = 0, before_epoch: bool = False) -> int:
    """Which value of the schedule a run uses during 0-based ``epoch``.

    Args:
        epoch: the epoch that runs.
        first_epoch: where the process started. A published resume at s passes s: its first epoch uses the value for
            s, one epoch earlier than an uninterrupted run. Passing 0 gives what an uninterrupted run does.
        before_epoch: the schedule is stepped before an epoch instead of after it (CooPre).
    """
    return epoch if before_epoch or epoch == first_epoch else epoch - 1
