"""Objects of a frame come in free order: compare ids as sets and bring box rows into the stored order first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.golden.arrays import as_array

if TYPE_CHECKING:
    from tests.golden.case import Case

BOX_ROWS = ("object_bbx_center", "label_dict/object_bbx_center")


def same_value(name: str, want: Any, got: Any) -> bool:
    """Equality of one non-array entry of a batch; the order of ``object_ids`` is free."""
    if name.endswith("object_ids"):
        return sorted(int(i) for i in want) == sorted(int(i) for i in got)
    return want == got


def align_rows(case: Case, got: dict[str, Any]) -> None:
    """Permute the produced box rows of ``got`` (in place, arrays replaced) into the order of the stored ones.

    The rows of the first sample follow ``object_ids``; those of further samples are matched as sets of boxes.
    """
    wanted_ids = case.meta.raw().get("expect_values") or {}
    for name, ids in case.object_ids.items():
        prefix = name.removesuffix("object_ids")
        for rows in BOX_ROWS:
            key = prefix + rows
            if key in got and key in case.wanted:
                boxes = np.array(as_array(got[key]))
                if boxes.shape == case.wanted[key].shape:
                    got[key] = _aligned(boxes, case.wanted[key], ids, [int(i) for i in wanted_ids[name]])
        _align_lists(case, got, f"{prefix}label_dict/gt_boxes/0", ids, [int(i) for i in wanted_ids[name]])


def _aligned(boxes: np.ndarray, want: np.ndarray, ids: list[int], wanted_ids: list[int]) -> np.ndarray:
    if sorted(ids) == sorted(wanted_ids):
        boxes[0, : len(ids)] = boxes[0, [ids.index(i) for i in wanted_ids]]
    for sample in range(1, len(boxes)):
        boxes[sample] = boxes[sample, _nearest_rows(boxes[sample], want[sample])]
    return boxes


def _nearest_rows(rows: np.ndarray, want: np.ndarray) -> list[int]:
    """Greedy assignment: for each stored row the closest produced row that is still free."""
    cost = np.abs(rows[None].astype(np.float64) - want[:, None].astype(np.float64)).sum(axis=-1)
    order = []
    for row in cost:
        row = row.copy()
        row[order] = np.inf
        order.append(int(row.argmin()))
    return order


def _align_lists(case: Case, got: dict[str, Any], key: str, ids: list[int], wanted_ids: list[int]) -> None:
    if key in got and key in case.wanted and sorted(ids) == sorted(wanted_ids):
        rows = as_array(got[key])
        if len(rows) == len(ids):
            got[key] = rows[[ids.index(i) for i in wanted_ids]]
