"""Watching a forward pass: what each part of a detector computes, gives, and how long it takes."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from opencood.experiments.devices import synchronize
from opencood.models.detector import Detector

OUTSIDE = "(between the parts)"
NO_SHAPE: tuple[int, ...] = ()


@dataclass(frozen=True)
class PartReport:
    """One part: its stage, the shape it gives, its parameters and its operations in one scene.

    Operations are floating-point ones of matrix products and convolutions, a multiplication and an addition counting as
    two; those of a part count as frozen when none of its parameters train.
    """

    name: str
    stage: str
    shape: tuple[int, ...]
    trainable: int
    frozen: int
    flops: int


class Watch(ABC):
    """Watches forward passes: how much of something (:meth:`read`) each part spends, and what it gives."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._before: float = 0
        self._open = [OUTSIDE]
        self._hooks: list[Any] = []

    @abstractmethod
    def read(self) -> float:
        """What has been spent up to now."""

    @abstractmethod
    def spent(self, part: str, amount: float) -> None:
        """A part has spent some more."""

    def __enter__(self) -> Self:
        for part, top in self.model.named_children():
            for module in top.modules():
                self._hooks.append(module.register_forward_pre_hook(self._enter(part)))
                self._hooks.append(module.register_forward_hook(self._leave(part)))
        self._before = self.read()
        return self

    def __exit__(self, *error: Any) -> None:
        self._flush()
        for hook in self._hooks:
            hook.remove()

    def _enter(self, part: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            if self._open[-1] != part:
                self._flush()
            self._open.append(part)

        return hook

    def _leave(self, part: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if self._open[-2] != part:
                self._flush()
            self._open.pop()
            found = next(tensors_in(output), None)
            if found is not None:
                self.shapes[part] = tuple(found.shape)

        return hook

    def _flush(self) -> None:
        now = self.read()
        self.spent(self._open[-1], now - self._before)
        self._before = now


class Clock(Watch):
    """Watches a forward pass: seconds of each part; the device is waited for wherever one part follows another."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(model)
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def read(self) -> float:
        """Seconds of the wall clock."""
        synchronize(self.device)
        return perf_counter()

    def spent(self, part: str, amount: float) -> None:
        """Add to the seconds of a part."""
        self.seconds[part] += amount


class Trace(Watch):
    """Watches a forward pass: which part computes how much."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.flops: dict[str, int] = defaultdict(int)
        self._counter = FlopCounterMode(display=False)
        self._trains = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def read(self) -> float:
        """Operations of the whole model."""
        return self._counter.get_total_flops()

    def spent(self, part: str, amount: float) -> None:
        """Add to the operations of a part."""
        self.flops[part] += int(amount)

    def __enter__(self) -> Self:
        self.model.requires_grad_(False)  # the counter cannot follow a parameter that is an argument of a module
        self._counter.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._counter.__exit__(*error)
        super().__exit__(*error)
        for parameter in self._trains:
            parameter.requires_grad_(True)

    def parts(self) -> Iterator[PartReport]:
        """The parts in published order."""
        stages = _stages(self.model)
        for name, module in self.model.named_children():
            sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
            trainable = sum(size for size, trains in sizes if trains)
            frozen = sum(size for size, trains in sizes if not trains)
            stage = next((slot for pattern, slot in stages if pattern.fullmatch(name)), "encode")
            yield PartReport(name, stage, self.shapes.get(name, NO_SHAPE), trainable, frozen, self.flops[name])
        if self.flops[OUTSIDE]:
            yield PartReport(OUTSIDE, "", NO_SHAPE, 0, 0, self.flops[OUTSIDE])


def _stages(model: nn.Module) -> list[tuple[re.Pattern[str], str]]:
    if not isinstance(model, Detector):
        return []
    templates = [(part.name.partition(".")[0], part.slot) for part in model.assembly.parts if part.name]
    return [
        (re.compile(name.replace("{m}", r"m\d+").replace("{pyramid}", r"(pyramid|fusion)_backbone")), slot)
        for name, slot in templates
    ]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested maps, sequences and sparse volumes."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "features"):  # a sparse volume
        yield value.features
