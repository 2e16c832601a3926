"""The exchange that makes several processes one: gradients are summed, batch statistics averaged.

It replaces ``DistributedDataParallel`` because a step here may leave out any part of the model on any rank
(modalities that are absent from a batch), or a whole rank (a batch without objects): a rank without a gradient adds
nothing, a parameter without a gradient on every rank keeps none, and nothing waits for a hook that never fires.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from opencood.training.distributed import World

Statistics = tuple[Tensor, Tensor, Tensor]  # number of updates, running mean, running variance


class Exchange:
    """Sums the gradients of a model over the ranks and keeps its running statistics equal on all of them."""

    def __init__(self, model: nn.Module, world: World):
        self.model = model
        self.world = world
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self.statistics = [found for norm in norms if (found := _statistics(norm)) is not None]
        self.counters: list[Tensor] = []

    def open_step(self) -> None:
        """Remember the batch-norm counters, to see afterwards which statistics this rank updated."""
        if self.world.size > 1:
            self.counters = [counter.clone() for counter, _, _ in self.statistics]

    def close_step(self) -> None:
        """Sum gradients and average statistics; every rank must call it, with or without gradients of its own."""
        if self.world.size > 1:
            self._sum_gradients()
            self._average_statistics()

    def _sum_gradients(self) -> None:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        used_here = [parameter.grad is not None for parameter in parameters]
        used = [any(column) for column in zip(*self.world.gather(used_here), strict=True)]
        by_type: dict[torch.dtype, list[nn.Parameter]] = defaultdict(list)
        for parameter, is_used in zip(parameters, used, strict=True):
            if is_used:
                by_type[parameter.dtype].append(parameter)
        for group in by_type.values():
            flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in group])
            shares = self.world.sum_tensor(flat).split([parameter.numel() for parameter in group])
            for parameter, share in zip(group, shares, strict=True):
                parameter.grad = share.view_as(parameter)

    def _average_statistics(self) -> None:
        """Each statistic becomes the mean over the ranks that updated it in this step."""
        if not self.statistics:
            return
        pieces = []
        for (counter, mean, variance), before in zip(self.statistics, self.counters, strict=True):
            updated = (counter > before).to(mean)
            pieces += [updated.reshape(1), updated * mean, updated * variance]
        shares = iter(self.world.sum_tensor(torch.cat(pieces)).split([piece.numel() for piece in pieces]))
        for (counter, mean, variance), before in zip(self.statistics, self.counters, strict=True):
            ranks, mean_sum, variance_sum = next(shares), next(shares), next(shares)
            mean.copy_(torch.where(ranks > 0, mean_sum / ranks, mean))
            variance.copy_(torch.where(ranks > 0, variance_sum / ranks, variance))
            counter.copy_(before + (ranks[0] > 0))


def _statistics(norm: _BatchNorm) -> Statistics | None:
    """The buffers of a batch norm that keeps running statistics."""
    counter, mean, variance = norm.num_batches_tracked, norm.running_mean, norm.running_var
    return None if counter is None or mean is None or variance is None else (counter, mean, variance)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
