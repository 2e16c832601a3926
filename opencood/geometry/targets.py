"""Which anchors answer for which ground truth (spec data.md, section 9)."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.errors import ConfigError
from opencood.geometry.anchors import AnchorIndex
from opencood.geometry.boxes import boxes_to_corners_3d, standup_boxes
from opencood.geometry.coding import encode_boxes
from opencood.geometry.jit import compiled

# Boxes further apart than 1 m do not overlap by the convention of ``standup_iou_plus_one``; the rest is for rounding.
_REACH = 1.01


def assign_targets(
    gt_boxes: NDArray,
    mask: NDArray,
    anchors: NDArray | AnchorIndex,
    order: str,
    pos_threshold: float,
    neg_threshold: float,
) -> dict[str, NDArray[np.float64]]:
    """Return the labels of one scene.

    Args:
        gt_boxes: (M, 7) boxes in the frame of the anchors; rows with mask 0 are padding.
        mask: (M,) 1 for valid rows.
        anchors: (H, W, K, 7), or their ``AnchorIndex``, which saves recomputing it for every scene.
        order: ``hwl``.
        pos_threshold: an anchor with a larger IoU is positive, and so is the best anchor of every box.
        neg_threshold: an anchor with a smaller IoU to all boxes is negative.

    Returns:
        ``pos_equal_one`` and ``neg_equal_one`` (H, W, K), ``targets`` (H, W, 7 K); float64.

    Equal to the bit to the dense assignment on ``iou.standup_iou_plus_one``: an anchor takes the first box that
    exceeds the threshold, else the first box it is the best anchor of; among equally good anchors the first is the
    best.

    Raises:
        ConfigError: the order has no labels, or the thresholds are not ``0 < neg <= pos``.
    """
    return dict(compact_targets(gt_boxes, mask, anchors, order, pos_threshold, neg_threshold))


def compact_targets(
    gt_boxes: NDArray,
    mask: NDArray,
    anchors: NDArray | AnchorIndex,
    order: str,
    pos_threshold: float,
    neg_threshold: float,
) -> AnchorLabels:
    """Return the labels of ``assign_targets`` without writing them out."""
    if order != "hwl":
        raise ConfigError(f"postprocess.order: labels are defined for hwl only, got '{order}'.")
    if not 0 < neg_threshold <= pos_threshold:
        raise ConfigError(
            "postprocess.target_args: expected 0 < neg_threshold <= pos_threshold, "
            f"got {neg_threshold} and {pos_threshold}."
        )
    index = anchors if isinstance(anchors, AnchorIndex) else AnchorIndex(np.asarray(anchors, np.float64), order)
    boxes = np.asarray(gt_boxes, np.float64)[np.asarray(mask) == 1, :7]
    positive, owners, negative = _claimed(boxes, index, pos_threshold, neg_threshold)
    codes = encode_boxes(boxes[owners], index.anchors.reshape(-1, 7)[positive])
    return AnchorLabels(negative, positive, codes)


@dataclass(frozen=True, eq=False)
class AnchorLabels(Mapping[str, NDArray[np.float64]]):
    """Labels of one scene: a mapping to the dense arrays of ``assign_targets``, which are made when asked for.

    A scene has some hundred positive anchors of 10^5, and a sample a scene for every agent.

    Attributes:
        negative: (H, W, K).
        positive: (n,) flat indices of positive anchors.
        codes: (n, 7) their targets.
    """

    negative: NDArray[np.bool_]
    positive: NDArray[np.int64]
    codes: NDArray[np.float64]

    def __iter__(self) -> Iterator[str]:
        return iter(("pos_equal_one", "neg_equal_one", "targets"))

    def __len__(self) -> int:
        return 3

    def __getitem__(self, key: str) -> NDArray[np.float64]:
        return PendingLabels.of([self]).make("cpu")[key][0].numpy()


@dataclass(frozen=True, eq=False)
class PendingLabels:
    """The labels of B scenes before they are written out.

    Attributes:
        negative: (B, H, W, K) bool.
        positive: (n,) flat indices of positive anchors over all scenes.
        codes: (n, 7) float64, their targets.
    """

    negative: torch.Tensor
    positive: torch.Tensor
    codes: torch.Tensor
    names: ClassVar[tuple[str, ...]] = ("pos_equal_one", "neg_equal_one", "targets")

    @classmethod
    def of(cls, labels: Sequence[AnchorLabels]) -> PendingLabels:
        """Those of several scenes."""
        starts = np.arange(len(labels)) * labels[0].negative.size
        positive = [label.positive + start for label, start in zip(labels, starts, strict=True)]
        return cls(
            torch.from_numpy(np.stack([label.negative for label in labels])),
            torch.from_numpy(np.concatenate(positive)),
            torch.from_numpy(np.concatenate([label.codes for label in labels])),
        )

    def make(self, device: torch.device | str) -> dict[str, torch.Tensor]:
        """``pos_equal_one``, ``neg_equal_one`` (B, H, W, K) and ``targets`` (B, H, W, 7 K), float64."""
        negative, where, codes = (values.to(device) for values in (self.negative, self.positive, self.codes))
        positive, targets = _zeros(negative.shape, device), _zeros((*negative.shape, 7), device)
        positive.view(-1)[where] = 1
        targets.view(-1, 7)[where] = codes
        return {"pos_equal_one": positive, "neg_equal_one": negative.double(), "targets": targets.flatten(3)}


def _zeros(shape: Sequence[int], device: torch.device | str) -> torch.Tensor:
    """Zeros in float64; in the host's memory page by page as they are written, where allocators would clear all."""
    if torch.device(device).type != "cpu":
        return torch.zeros(*shape, dtype=torch.float64, device=device)
    size = math.prod(shape)
    return torch.from_numpy(np.frombuffer(mmap.mmap(-1, 8 * max(size, 1)), np.float64, size)).view(*shape)


def claim_anchors(
    boxes: NDArray, index: AnchorIndex, pos_threshold: float, neg_threshold: float
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return (H, W, K) the box each anchor answers for (-1: none) and (H, W, K) whether it is negative.

    Args:
        boxes: (M, 7), all valid.
    """
    positive, owners, negative = _claimed(boxes, index, pos_threshold, neg_threshold)
    claims = np.full(negative.shape, -1, np.int32)
    claims.reshape(-1)[positive] = owners
    return claims, negative


def _claimed(
    boxes: NDArray, index: AnchorIndex, pos_threshold: float, neg_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return (n,) flat indices of positive anchors in order, (n,) their boxes, and (H, W, K) which are negative."""
    standup = standup_boxes(boxes_to_corners_3d(boxes, index.order)) if len(boxes) else np.zeros((0, 4), np.float32)
    positive, owners, negative = _claim(
        np.ascontiguousarray(standup),
        index.standup,
        index.areas,
        index.row_spans,
        index.column_spans,
        np.float32(pos_threshold),
        np.float32(neg_threshold),
    )
    order = np.argsort(positive)
    return positive[order], owners[order], negative


@compiled
def _claim(
    boxes: NDArray, standup: NDArray, areas: NDArray, row_spans: NDArray, column_spans: NDArray,
    positive: np.float32, negative: np.float32,
) -> tuple[NDArray, NDArray, NDArray]:  # fmt: skip
    """Evaluate IoU only for anchors in rows and columns near each box; everything else overlaps nothing."""
    rows, columns, kinds = areas.shape
    is_negative = np.ones((rows, columns, kinds), np.bool_)
    is_positive = np.zeros((rows, columns, kinds), np.bool_)
    found, owners = [0 for _ in range(0)], [0 for _ in range(0)]  # tells the compiler what they hold
    best = np.full((len(boxes), 3), -1, np.int64)
    near = np.empty(columns, np.int64)
    for g in range(len(boxes)):
        best_iou = np.float32(0)
        count = 0
        for w in range(columns):
            if column_spans[w, 0] < boxes[g, 2] + _REACH and column_spans[w, 1] > boxes[g, 0] - _REACH:
                near[count] = w
                count += 1
        for h in range(rows):
            if not (row_spans[h, 0] < boxes[g, 3] + _REACH and row_spans[h, 1] > boxes[g, 1] - _REACH):
                continue
            for w in near[:count]:
                for k in range(kinds):
                    iou = _iou_plus_one(standup, h, w, k, areas[h, w, k], boxes, g)
                    if iou > best_iou:
                        best_iou = iou
                        best[g, 0], best[g, 1], best[g, 2] = h, w, k
                    if iou > positive and not is_positive[h, w, k]:
                        is_positive[h, w, k] = True
                        found.append((h * columns + w) * kinds + k)
                        owners.append(g)
                    if not iou < negative:
                        is_negative[h, w, k] = False
    for g in range(len(boxes)):
        h, w, k = best[g, 0], best[g, 1], best[g, 2]
        if h >= 0:
            is_negative[h, w, k] = False
            if not is_positive[h, w, k]:
                is_positive[h, w, k] = True
                found.append((h * columns + w) * kinds + k)
                owners.append(g)
    return np.array(found, np.int64), np.array(owners, np.int64), is_negative


@compiled
def _iou_plus_one(
    standup: NDArray, h: int, w: int, k: int, anchor_area: float, boxes: NDArray, g: int
) -> np.float32:  # indices instead of rows: making views takes longer than the arithmetic
    """One entry of ``iou.standup_iou_plus_one``, rounded at the same places."""
    one = np.float32(1)
    across = min(standup[h, w, k, 2], boxes[g, 2]) - max(standup[h, w, k, 0], boxes[g, 0]) + one
    along = min(standup[h, w, k, 3], boxes[g, 3]) - max(standup[h, w, k, 1], boxes[g, 1]) + one
    if not (across > 0 and along > 0):
        return np.float32(0)
    overlap = across * along
    box_area = (boxes[g, 2] - boxes[g, 0] + one) * (boxes[g, 3] - boxes[g, 1] + one)
    return overlap / np.float32(anchor_area + box_area - overlap)
