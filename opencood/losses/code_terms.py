"""How alike the maps of two agents are, once both are seen from the ego (spec codealign.md 5).

Every function takes the features of two agents (C, H, W) and where the second has any (H, W), and gives a scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

NO_ZERO = 1e-6
NO_ZERO_SHARE = 1e-8
MOST_CELLS = 256

Term = Callable[[Tensor, Tensor, Tensor], Tensor]


def squared(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Squared difference, summed over channels and averaged over cells."""
    return ((first - second).square() * mask).sum() / (mask.sum() + NO_ZERO)


def huber(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Smooth L1 of beta 1 of the masked difference, summed over channels and averaged over cells."""
    return F.smooth_l1_loss(first * mask, second * mask, reduction="sum") / (mask.sum() + NO_ZERO)


def cosine(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """One minus the cosine over channels, averaged over cells."""
    return ((1 - cosine_map(first, second)) * mask).sum() / (mask.sum() + NO_ZERO)


def cosine_map(first: Tensor, second: Tensor) -> Tensor:
    """Cosine over channels (axis -3) at every cell."""
    norms = [x.norm(dim=-3).clamp(min=NO_ZERO) for x in (first, second)]
    return ((first * second).sum(dim=-3) / (norms[0] * norms[1])).clamp(-1.0, 1.0)


def mean_discrepancy(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Squared maximum mean discrepancy by a Gaussian kernel of width 1, of at most 256 random cells of each."""
    x, y = (_some(cells) for cells in _covered(first, second, mask))
    if len(x) < 2:
        return _nothing(first)
    return _kernel(x, x).mean() + _kernel(y, y).mean() - 2 * _kernel(x, y).mean()


def correlation(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of the covariances over cells."""
    x, y = _covered(first, second, mask)
    return (x.T.cov() - y.T.cov()).square().mean() if len(x) >= 2 else _nothing(first)


def jensen_shannon(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the softmaxes over channels, averaged over cells."""
    cells = _covered(first, second, mask)
    if not len(cells[0]):
        return _nothing(first)
    p, q = (x.softmax(dim=1).clamp(min=NO_ZERO_SHARE) for x in cells)
    log_mean = ((p + q) / 2).log()
    return torch.stack([(s * (s.log() - log_mean)).sum(dim=1).mean() for s in (p, q)]).mean()


def mahalanobis(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Mean squared length of the difference under the pseudo-inverse covariance of both sets of cells together."""
    x, y = _covered(first, second, mask)
    if len(x) < 2:
        return _nothing(first)
    inverse = torch.linalg.pinv(torch.cat([x, y]).T.cov())
    return ((x - y) @ inverse * (x - y)).sum(dim=1).mean()


TERMS: dict[str, Term] = {
    "l2": squared,
    "smoothl1": huber,
    "cosine": cosine,
    "mmd": mean_discrepancy,
    "coral": correlation,
    "js": jensen_shannon,
    "mahalanobis": mahalanobis,
}


def pixel_similarity(maps: Tensor, masks: Tensor, weight: Tensor, mode: str) -> Tensor:
    """One minus the mean over pairs of agents of their weighted mean cosine, of maps (N, C, H, W) of one sample.

    Args:
        masks: (N, H, W) where an agent has a map; a pair counts where both have one.
        weight: (H, W) of the cells.
        mode: ``all``: the cosine over channels; ``mean``: the product of channel means, normalised over the agents.
    """
    first, second = torch.triu_indices(len(maps), len(maps), offset=1).unbind()
    if mode == "all":
        alike = cosine_map(maps[first], maps[second])
    else:
        means = F.normalize(maps.mean(dim=1), dim=0)
        alike = means[first] * means[second]
    weights = weight * masks[first] * masks[second]
    return 1 - ((alike * weights).sum(dim=(1, 2)) / (weights.sum(dim=(1, 2)) + NO_ZERO)).mean()


def _covered(first: Tensor, second: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The covered cells of both, (cells, C)."""
    seen = mask > 0
    return first[:, seen].T, second[:, seen].T


def _some(cells: Tensor) -> Tensor:
    if len(cells) <= MOST_CELLS:
        return cells
    return cells[torch.randperm(len(cells), device=cells.device)[:MOST_CELLS]]


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    square = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return (-square.clamp(min=0) / 2).exp()


def _nothing(like: Tensor) -> Tensor:
    return like.sum() * 0
