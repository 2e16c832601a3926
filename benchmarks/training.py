"""The anchor loss and the bookkeeping of a step, beside what plain code does.

The plain loss looks at every anchor although only the positive ones have a box. Plain ``torch.save`` gives no guarantee
that a file appears whole, so that row's ratio is what safety costs.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from _timing import Row, median_seconds, versus

from opencood.geometry.coding import direction_bins, flatten_head
from opencood.losses.functions import focal_cross_entropy, sine_difference, smooth_l1
from opencood.losses.point_pillar import PointPillarLoss
from opencood.training.checkpoints import save

BATCH, HEIGHT, WIDTH = 4, 128, 256
DIRECTION = {"weight": 0.2, "args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]}}


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    torch.manual_seed(0)
    return [_loss(), _checkpoint()]


def _loss() -> Row:
    loss = PointPillarLoss(2.0, {"alpha": 0.25, "gamma": 2.0, "weight": 1.0}, {"sigma": 3.0, "weight": 2.0}, DIRECTION)
    outputs = {
        name: torch.randn(BATCH, channels, HEIGHT, WIDTH, requires_grad=True)
        for name, channels in (("cls_preds", 2), ("reg_preds", 14), ("dir_preds", 4))
    }
    positive = (torch.rand(BATCH, HEIGHT, WIDTH, 2) < 0.001).double()
    targets = {
        "pos_equal_one": positive,
        "neg_equal_one": 1 - positive,
        "targets": torch.randn(BATCH, HEIGHT, WIDTH, 14).double(),
    }
    whole = median_seconds(lambda: loss(outputs, targets)[0].backward())
    assert torch.isclose(loss(outputs, targets)[0], _plain_loss(outputs, targets), rtol=1e-4)
    plain = median_seconds(lambda: _plain_loss(outputs, targets).backward())
    return versus(f"anchor loss and backward, {BATCH} x {HEIGHT} x {WIDTH} x 2 anchors", whole, plain)


def _plain_loss(outputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same terms, every one computed on all anchors."""
    logits, residuals, turns = (flatten_head(outputs[k], n) for k, n in zip(outputs, (1, 7, 2), strict=True))
    positive, negative = (targets[k].reshape(BATCH, -1).float() for k in ("pos_equal_one", "neg_equal_one"))
    wanted = targets["targets"].reshape(BATCH, -1, 7).float()
    count = positive.sum(dim=1, keepdim=True).clamp(min=1.0)
    classes = focal_cross_entropy(logits.squeeze(-1), positive, 0.25, 2.0) * (2.0 * positive + negative) / count
    boxes = smooth_l1(sine_difference(residuals, wanted), 3.0) * (positive / count).unsqueeze(-1)
    yaws = torch.tensor([0.0, math.pi / 2]).repeat(positive.shape[1] // 2)
    bins = direction_bins(wanted[..., 6] + yaws, 2, 0.7853)
    entropy = F.cross_entropy(turns.flatten(0, 1), bins.flatten(), reduction="none").view_as(positive)
    return (classes.sum() + 2.0 * boxes.sum() + 0.2 * (entropy * positive / count).sum()) / BATCH


def _checkpoint() -> Row:
    state = {f"layer{i}.weight": torch.randn(256, 256, 3, 3) for i in range(14)}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "net.pth"
        safe = median_seconds(lambda: save(state, path))
        plain = median_seconds(lambda: torch.save(state, path))
    return versus("checkpoint of 33 MB, atomic", safe, plain)
