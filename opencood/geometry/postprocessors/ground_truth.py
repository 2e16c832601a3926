"""Evaluation ground truth out of the samples of several agents (spec evaluation.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from opencood.errors import DataError
from opencood.geometry.boxes import boxes_to_corners_3d, corners_in_range, project_corners
from opencood.geometry.iou import bev_iou

# The same object seen by two sensors has a footprint IoU above this (DAIR-V2X has no common ids).
SAME_OBJECT_IOU = 0.05

AgentSamples = Mapping[Any, Mapping[str, Any]]


def merge_by_id(
    samples: AgentSamples,
    order: str,
    limits: Sequence[float],
    axes: str = "xyz",
    transform: str = "transformation_matrix_clean",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (M, 8, 3) corners in the ego frame and (M, E) further box columns, one row per object id.

    Args:
        samples: agent -> ``object_bbx_center`` (1, N, 7 or more), ``object_bbx_mask`` (1, N), ``object_ids`` of the
            valid rows, and the (4, 4) matrix named ``transform`` (agent to ego).
        limits: range that must hold all corners, along ``axes``.

    The first occurrence of an id stays. Ids 7 and "7" are the same object.

    Raises:
        DataError: an agent's ids are not as many as its valid boxes.
    """
    corners, extra, names = [], [], []
    for agent, sample in samples.items():
        agent_corners, agent_extra = _valid_boxes(sample, order, transform)
        ids = [str(name) for name in np.asarray(sample["object_ids"]).reshape(-1).tolist()]
        if len(ids) != len(agent_corners):
            raise DataError(f"agent {agent}: {len(agent_corners)} valid boxes but {len(ids)} object ids.")
        corners.append(agent_corners)
        extra.append(agent_extra)
        names += ids
    merged, columns = torch.cat(corners), torch.cat(extra)
    first = np.sort(np.unique(np.array(names, dtype=np.str_), return_index=True)[1])
    chosen = torch.as_tensor(first, device=merged.device)
    merged, columns = merged[chosen], columns[chosen]
    kept = corners_in_range(merged, limits, axes)
    return merged[kept], columns[kept]


def merge_by_iou(
    samples: AgentSamples,
    order: str,
    limits: Sequence[float],
    transform: str = "transformation_matrix_clean",
    same_object: float = SAME_OBJECT_IOU,
) -> torch.Tensor:
    """Return (M, 8, 3) corners in the ego frame: of every agent in turn the boxes that overlap none of earlier agents.

    Args: as ``merge_by_id``, without ids. The range is tested in x and y only.
    """
    agents = [_valid_boxes(sample, order, transform)[0] for sample in samples.values()]
    merged = agents[0]
    for corners in agents[1:]:
        overlap = bev_iou(corners.cpu().numpy(), merged.cpu().numpy())
        is_new = torch.as_tensor((overlap <= np.float32(same_object)).all(axis=1), device=corners.device)
        merged = torch.cat([merged, corners[is_new]])
    return merged[corners_in_range(merged, limits, axes="xy")]


def _valid_boxes(sample: Mapping[str, Any], order: str, transform: str) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = torch.as_tensor(sample["object_bbx_center"])
    boxes = boxes.reshape(-1, boxes.shape[-1])
    valid = boxes[torch.as_tensor(sample["object_bbx_mask"], device=boxes.device).reshape(-1) == 1]
    corners = boxes_to_corners_3d(valid[:, :7], order)
    return project_corners(corners, sample[transform]), valid[:, 7:]
