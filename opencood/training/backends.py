"""Detectors with several backends: which one a step trains, and what validation says about each (CodeAlign, stage 2).

Source: spec codealign.md section 6 ``train_ddp_data_balance``, section 10 quirk 22.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isclose
from statistics import fmean
from typing import Protocol

from opencood.errors import ConfigError

START = 10


class Targets(Protocol):
    """The part of a detector that knows its backends.

    Attributes:
        weights: how often each backend is drawn in a training step, relative to the others.
        target: the backend to use in eval mode; None leaves the choice to the detector.
    """

    weights: dict[str, float]
    target: str | None

    @property
    def backends(self) -> list[str]:
        """Their names."""
        ...


class Backends:
    """The backends of the detector that is trained.

    Args:
        targets: None for a detector that has one way only.
        balanced: after each validation, draw backends with a loss above the mean more often, the others less.

    Raises:
        ConfigError: there is nothing to balance.
    """

    def __init__(self, targets: Targets | None, balanced: bool = False) -> None:
        self.targets, self.balanced = targets, balanced
        if balanced and targets is None:
            raise ConfigError(
                "train_params.data_balance: this detector has no backends to choose from; only models that translate "
                "(heter_codebook_shared_head_c2c and its relatives) do. Remove it, or use train_ddp.py."
            )
        if balanced and targets is not None:
            targets.weights = dict.fromkeys(targets.backends, float(START))

    def in_turn(self) -> Iterator[str]:
        """Every backend by name, as the one that is used meanwhile; one nameless turn where there is nothing to choose.

        So validation is the same whatever was drawn in training.
        """
        if self.targets is None:
            yield ""
            return
        before = self.targets.target
        try:
            for name in self.targets.backends:
                self.targets.target = name
                yield name
        finally:
            self.targets.target = before

    def rebalance(self, losses: Mapping[str, float]) -> dict[str, float]:
        """Move the weights by one after a validation: up above the mean loss, down below it, never under 1.

        Args:
            losses: mean validation loss by backend; one that is missing had no sample and counts as 0.

        Returns:
            the weights; empty when nothing is balanced.
        """
        if not self.balanced or self.targets is None:
            return {}
        found = {name: losses.get(name, 0.0) for name in self.targets.backends}
        mean = fmean(found.values())
        for name, loss in found.items():
            step = 0 if isclose(loss, mean, rel_tol=1e-9) else 1 if loss > mean else -1
            self.targets.weights[name] = max(1.0, self.targets.weights[name] + step)
        return dict(self.targets.weights)

    def state(self) -> dict[str, float]:
        """What a resume needs."""
        return dict(self.targets.weights) if self.targets is not None and self.balanced else {}

    def load(self, state: Mapping[str, float]) -> None:
        """Continue with the weights of :meth:`state`, as far as they are of these backends."""
        if self.targets is not None and self.balanced:
            self.targets.weights |= {name: float(state[name]) for name in self.targets.backends if name in state}
