"""One optimisation step: forward, criterion calls, backward, exchange, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import OpencoodError
from opencood.training.distributed import World
from opencood.training.exchange import Exchange

Report = dict[str, tuple[float, dict[str, float]]]  # suffix of the criterion call -> (loss, terms)
Shares = dict[str, tuple[Tensor, dict[str, Tensor]]]
Diagnose = Callable[[nn.Module, Mapping[str, Any]], str | None]


class NonFiniteLoss(OpencoodError):
    """The loss became NaN or infinite; the message names where."""


@dataclass(frozen=True)
class Criterion:
    """The loss of a batch: the main call, and the weighted per-agent call where the data set supervises agents.

    ``loss(outputs, targets, suffix)`` gives (loss, terms). A loss with ``parts`` and ``combine`` (see
    ``losses.parts``) is averaged exactly over all ranks; any other is weighted by the ranks' sample counts.
    """

    loss: Any
    supervise_single: bool = False
    single_weight: float = 1.0

    def targets(self, ego: Mapping[str, Any]) -> Mapping[str, Any]:
        """Targets of the main call."""
        if hasattr(self.loss, "targets"):  # a loss of several tasks takes more than the labels of one
            return self.loss.targets(ego)
        return ego["label_dict"]

    def calls(self, ego: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Targets of each call by suffix."""
        single = self.supervise_single and not hasattr(self.loss, "targets")
        return {"": self.targets(ego)} | ({"_single": ego["label_dict_single"]} if single else {})

    def __call__(self, outputs: Mapping[str, Any], ego: Mapping[str, Any]) -> Shares:
        """(loss, terms) of each call, as one process sees them."""
        return {suffix: self.loss(outputs, targets, suffix) for suffix, targets in self.calls(ego).items()}

    def shared(self, outputs: Mapping[str, Any] | None, ego: Mapping[str, Any], world: World) -> Shares:
        """This rank's additive share of each call's loss over all ranks; ``outputs`` None has weight zero."""
        if world.size == 1:
            return {} if outputs is None else self(outputs, ego)
        if hasattr(self.loss, "parts"):
            return self._shared_parts(outputs, ego, world)
        own = {} if outputs is None else self(outputs, ego)
        weights = {suffix: float(_samples(targets)) for suffix, targets in self.calls(ego).items()} if own else {}
        totals = world.sum_by_key(weights)
        return {
            suffix: (loss * (weights[suffix] / totals[suffix]), _scaled(terms, weights[suffix] / totals[suffix]))
            for suffix, (loss, terms) in own.items()
        }

    def _shared_parts(self, outputs: Mapping[str, Any] | None, ego: Mapping[str, Any], world: World) -> Shares:
        calls = {} if outputs is None else self.calls(ego)
        own = {suffix: self.loss.parts(outputs, targets, suffix) for suffix, targets in calls.items()}
        counts = {(suffix, key): float(part.count) for suffix, parts in own.items() for key, part in parts.items()}
        totals = world.sum_by_key(counts)
        return {
            suffix: self.loss.combine(parts, {key: totals[suffix, key] for key in parts})
            for suffix, parts in own.items()
        }

    def total(self, shares: Shares) -> Tensor:
        """What is back-propagated."""
        weights = {"": 1.0, "_single": self.single_weight}
        return torch.stack([loss * weights[suffix] for suffix, (loss, _) in shares.items()]).sum()


class Stepper:
    """Performs training steps on a model.

    Args:
        model, optimizer, criterion, world: the parts of the step.
        precision: autocast type of the forward pass, None for full precision; fp16 gets a gradient scaler.
        grad_clip: largest L2 norm of the gradient.
        diagnose: names the module where a non-finite value first appears (None: all are finite), given the model and
            the ``ego`` entry.
        teacher: a frozen detector in eval mode that sees the same batch; its outputs join the model's (distillation).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion: Criterion,
        world: World,
        precision: torch.dtype | None = None,
        grad_clip: float | None = None,
        diagnose: Diagnose | None = None,
        teacher: nn.Module | None = None,
    ):
        self.model, self.optimizer, self.criterion, self.world = model, optimizer, criterion, world
        self.precision, self.grad_clip, self.diagnose, self.teacher = precision, grad_clip, diagnose, teacher
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision == torch.float16)
        self.exchange = Exchange(model, world)

    def __call__(self, ego: Mapping[str, Any] | None) -> Report | None:
        """Take one step on this rank's batch; None takes part with weight zero.

        Returns:
            the losses over all ranks; None when no rank has an object, and nothing was done.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite; the weights are those before the step.
        """
        if not any(self.world.gather(ego is not None)):
            return None
        self.optimizer.zero_grad(set_to_none=True)
        self.exchange.open_step()
        outputs = None if ego is None else self.forward(ego)
        shares = self.criterion.shared(outputs, ego or {}, self.world)
        report = summarise(shares, self.world)
        self._refuse_non_finite(report, ego)
        if shares:
            self._backward(self.criterion.total(shares))
        else:
            self.scaler.scale(torch.zeros((), device=self.world.device))  # a scaler must see a value before it steps
        self.exchange.close_step()
        self._update()
        return report

    def forward(self, ego: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the model, under autocast where half precision is wanted."""
        with self._autocast():
            return self.predict(ego)

    def predict(self, ego: Mapping[str, Any]) -> Mapping[str, Any]:
        """Outputs of the model, and those of the teacher where there is one."""
        outputs = self.model(ego)
        if self.teacher is None:
            return outputs
        with torch.no_grad():
            return {**self.teacher(ego), **outputs}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.world.device.type, dtype=self.precision, enabled=self.precision is not None)

    def _backward(self, total: Tensor) -> None:
        # Every output may come from frozen parts (a sample of the ego alone in a later stage): nothing to learn from
        # it.
        if total.requires_grad:
            self.scaler.scale(total).backward()

    def _update(self) -> None:
        if all(parameter.grad is None for parameter in self.model.parameters()):
            return
        if self.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _refuse_non_finite(self, report: Report, ego: Mapping[str, Any] | None) -> None:
        bad = [
            name + suffix
            for suffix, (_, terms) in report.items()
            for name, value in terms.items()
            if not math.isfinite(value)
        ]
        if not bad and all(math.isfinite(loss) for loss, _ in report.values()):
            return
        raise NonFiniteLoss(
            f"the loss is not finite ({', '.join(bad)}).{self._where(ego)} The weights are those before this step. "
            "Lower optimizer.lr, set train_params.grad_clip, or train without --half."
        )

    def _where(self, ego: Mapping[str, Any] | None) -> str:
        if self.diagnose is None or ego is None:
            return ""
        with self._autocast():
            name = self.diagnose(self.model, ego)
        return f" It begins in '{name}'." if name else " All modules are finite: it begins in the loss or its targets."


def summarise(shares: Shares, world: World) -> Report:
    """Losses and terms over all ranks as numbers, with one transfer from the device."""
    flat = {(suffix, "loss"): loss.detach() for suffix, (loss, _) in shares.items()}
    for suffix, (_, terms) in shares.items():
        flat |= {(suffix, name): torch.as_tensor(value).to(flat[suffix, "loss"]) for name, value in terms.items()}
    values = torch.stack(list(flat.values())).tolist() if flat else []
    summed = world.sum_by_key(dict(zip(flat, values, strict=True)))
    report: Report = {}
    for suffix in sorted({suffix for suffix, _ in summed}):
        numbers = {name: value for (of, name), value in summed.items() if of == suffix}
        report[suffix] = (numbers.pop("loss"), numbers)
    return report


def has_objects(ego: Mapping[str, Any]) -> bool:
    """Whether any sample of the batch has a ground-truth box, or the data set has no ground truth (pretraining)."""
    mask = ego.get("object_bbx_mask")
    return mask is None or bool(mask.sum() > 0)


def _samples(targets: Mapping[str, Tensor]) -> int:
    return next(iter(targets.values())).shape[0]


def _scaled(terms: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    return {name: value * weight for name, value in terms.items()}
