"""Detectors in two stages: agents find boxes alone, what they found is merged and looked at once more at the ego.

Source: spec homogeneous.md 4 (FPV-RCNN, and its variant on voxels). A message holds boxes, scores, and what is around
the boxes: key points with features, or sparse voxels; never a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from opencood.communication import Message
from opencood.errors import DataError
from opencood.geometry.box_merging import Merged, iou_3d_matrix, merge_boxes
from opencood.geometry.boxes import boxes_to_corners_3d, corners_in_range, size_columns
from opencood.geometry.neighbours import farthest_points
from opencood.geometry.poses import transform_points
from opencood.geometry.postprocessors import FpvrcnnPostprocessor
from opencood.geometry.refinement import residuals
from opencood.models.detector import Detector
from opencood.models.encoders.second import BEV, LEVELS
from opencood.models.sparse.near_voxels import VoxelLevel, merged
from opencood.models.sparse.volume import SparseTensor, Triple

CLOUD = "origin_lidar_for_vsa"
POINTS_OF_KEYPOINTS = 50_000  # num_keypoints is meant for so many points
ENLARGED = 0.5  # metres by which boxes grow before they select key points; the specification gives no number
POSITIVE_IOU = 0.3  # a merged box that overlaps an object by more is one; likewise
STRIDES = {"x_conv1": 1, "x_conv2": 2, "x_conv3": 4, "x_conv4": 8}


@dataclass(frozen=True)
class Second:
    """What the second stage knows besides its networks.

    Attributes:
        postprocessor: finds the boxes of the first stage.
        order: order of the box sizes.
        voxel_size: x, y, z in metres.
        lidar_range: x0, y0, z0, x1, y1, z1 in metres.
        keypoints: number of key points of a cloud of ``POINTS_OF_KEYPOINTS`` points.
        enlarged: whether boxes grow before they select.
        grids: cells along z, y, x of each sparse level.
    """

    postprocessor: FpvrcnnPostprocessor
    order: str
    voxel_size: Sequence[float]
    lidar_range: Sequence[float]
    keypoints: int = 0
    enlarged: bool = True
    grids: Mapping[str, Triple] = field(default_factory=dict)


class TwoStageDetector(Detector):
    """The first stage of every agent, and the second of every scene in which anything was found.

    Outputs: those of the first stage (N agents), and ``stage2_out`` {rcnn_cls, rcnn_iou, rcnn_reg} of the merged boxes
    of all scenes one after the other (K), ``boxes_fused`` (K, 7) in the frame of their egos, ``scores_fused`` (K,),
    ``boxes_per_scene``, ``det_boxes`` per agent in its own frame and, where the batch has labels, ``rcnn_label_dict``.
    """

    second: Second

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """From a batch of ``intermediate2stage``: voxels, clouds, ``record_len``, ``pairwise_t_matrix``.

        Raises:
            DataError: clouds are in the ego's frame (``proj_first``), or are missing.
        """
        scene = self.encode(batch)
        outputs = self.backend_of(scene).detect(scene)
        counts = [int(n) for n in batch["record_len"]]
        with torch.no_grad():
            found = self.second.postprocessor.proposals(outputs)
        rows = torch.arange(sum(counts)).split(counts)
        agents = [self._message(row, found[row], scene.aux, batch) for row in range(sum(counts))]
        around = self._completed(agents)
        results = [
            self._refined([(agent, around[agent]) for agent in own.tolist()], number, batch["pairwise_t_matrix"])
            for number, own in enumerate(rows)
        ]
        known = {key: value for key, value in outputs.items() if not key.startswith("_")}
        kept = [result for result in results if result is not None]
        if not kept:
            return known
        sizes = [0 if result is None else len(result[0].boxes) for result in results]
        boxes = torch.cat([fused.boxes for fused, _ in kept])
        second = {name: torch.cat([heads[name] for _, heads in kept]) for name in kept[0][1]}
        known |= {"stage2_out": second, "boxes_fused": boxes, "boxes_per_scene": sizes}
        known |= {"scores_fused": torch.cat([fused.scores for fused, _ in kept])}
        known["det_boxes"] = [one.boxes for one in found]
        if "object_bbx_center" in batch:
            known["rcnn_label_dict"] = self._labels(boxes, sizes, batch)
        return known

    # --- at every agent --------------------------------------------------------------------------

    def _message(self, row: int, found: Any, aux: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What an agent knows of what it found, in its own frame."""
        raise NotImplementedError

    def _completed(self, agents: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """The same after what all agents work out together, as layers with batch statistics must in training."""
        return agents

    def _level(self, volume: SparseTensor, row: int, name: str) -> VoxelLevel:
        return VoxelLevel.of(volume, row, self.second.voxel_size, self.second.lidar_range, STRIDES[name])

    # --- at the ego ------------------------------------------------------------------------------

    def _refined(
        self, agents: list[tuple[int, dict[str, Tensor]]], scene: int, pairwise: Tensor
    ) -> tuple[Merged, dict[str, Tensor]] | None:
        """Merged boxes of one scene and what the heads say of them; None where there are none."""
        heard = []
        for slot, (_, tensors) in enumerate(agents):
            arrived: Mapping[str, Tensor] | None = tensors
            if slot and self.channel is not None and not self.training:
                message = None
                if self.channel.takes_part(slot):
                    message = self.channel.transmit(Message(tensors, kind="boxes"), slot, 0, scene)
                arrived = None if message is None else message.tensors
            if arrived is not None:
                heard.append((arrived, pairwise[scene, slot, 0]))
        boxes = torch.cat([_moved_boxes(tensors["boxes"], matrix) for tensors, matrix in heard])
        fused = merge_boxes(boxes, torch.cat([tensors["scores"] for tensors, _ in heard]), self.second.order)
        if len(fused.boxes):
            corners = boxes_to_corners_3d(fused.boxes, self.second.order)
            inside = corners_in_range(corners, self.second.lidar_range)
            fused = Merged(fused.boxes[inside], fused.scores[inside], fused.cluster)
        if not len(fused.boxes):
            return None
        head: Any = self.get_submodule("roi_head")
        return fused, head.branches(self._pooled(fused.boxes, heard))

    def _pooled(self, boxes: Tensor, heard: list[tuple[Mapping[str, Tensor], Tensor]]) -> Tensor:
        """What is around merged boxes (K, 7) in the ego's frame: (K, G, C)."""
        raise NotImplementedError

    @torch.no_grad()
    def _labels(self, boxes: Tensor, sizes: list[int], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Whether each merged box (K, 7) is an object, by how much it overlaps it, and what is left to be corrected."""
        parts = []
        for scene, own in enumerate(boxes.split(sizes)):
            truth = batch["object_bbx_center"][scene][batch["object_bbx_mask"][scene] > 0][:, :7].to(boxes)
            parts.append(_compared(own, truth, self.second.order))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


class KeypointDetector(TwoStageDetector):
    """FPV-RCNN: key points near the boxes are sent."""

    def _message(self, row: int, found: Any, aux: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        cloud = _cloud_of(batch, row)
        keypoints = self._keypoints(cloud, found.boxes)
        vsa: Any = self.get_submodule("vsa")
        levels = {
            name: self._level(volume, row, name)
            for name, volume in zip(STRIDES, aux[LEVELS], strict=True)
            if name in vsa.levels
        }
        bev = aux[BEV][row]
        around = vsa(keypoints, cloud, levels, bev, self._places(keypoints, bev))
        return {"boxes": found.boxes, "scores": found.scores, "keypoints": keypoints, "features": around}

    def _completed(self, agents: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        vsa: Any = self.get_submodule("vsa")
        counts = [len(agent["keypoints"]) for agent in agents]
        fused = vsa.fused(torch.cat([agent["features"] for agent in agents])).split(counts)
        return [{**agent, "features": own} for agent, own in zip(agents, fused, strict=True)]

    def _keypoints(self, cloud: Tensor, boxes: Tensor) -> Tensor:
        """Points (K, 3) far from each other that lie in enlarged boxes."""
        count = int(self.second.keypoints * len(cloud) / POINTS_OF_KEYPOINTS)
        chosen = cloud[farthest_points(cloud, count), :3]
        if not len(boxes) or not len(chosen):
            return chosen[:0]
        sizes = boxes[:, list(size_columns(self.second.order))] + (ENLARGED if self.second.enlarged else 0.0)
        apart = chosen[:, None] - boxes[None, :, :3]
        cosine, sine = boxes[:, 6].cos(), boxes[:, 6].sin()
        along = apart[..., 0] * cosine + apart[..., 1] * sine
        across = apart[..., 1] * cosine - apart[..., 0] * sine
        local = torch.stack([along, across, apart[..., 2]], dim=-1).abs()
        return chosen[(local <= sizes / 2).all(dim=-1).any(dim=1)]

    def _places(self, keypoints: Tensor, bev: Tensor) -> Tensor:
        """Columns and rows (K, 2) of key points on the map."""
        x0, y0, _, x1, y1, _ = self.second.lidar_range
        cells = keypoints.new_tensor([bev.shape[-1] / (x1 - x0), bev.shape[-2] / (y1 - y0)])
        return (keypoints[:, :2] - keypoints.new_tensor([x0, y0])) * cells - 0.5

    def _pooled(self, boxes: Tensor, heard: list[tuple[Mapping[str, Tensor], Tensor]]) -> Tensor:
        head: Any = self.get_submodule("roi_head")
        keypoints = torch.cat([transform_points(tensors["keypoints"], matrix) for tensors, matrix in heard])
        return head(boxes, self.second.order, keypoints, torch.cat([tensors["features"] for tensors, _ in heard]))


class VoxelDetector(TwoStageDetector):
    """The variant on voxels: the sparse levels are sent, and merged in the ego's grid."""

    def _message(self, row: int, found: Any, aux: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        head: Any = self.get_submodule("roi_head")
        tensors = {"boxes": found.boxes, "scores": found.scores}
        for name, volume in zip(STRIDES, aux[LEVELS], strict=True):
            if name in head.sources:
                level = self._level(volume, row, name)
                tensors |= {f"{name}_features": level.features, f"{name}_cells": level.cells}
        return tensors

    def _pooled(self, boxes: Tensor, heard: list[tuple[Mapping[str, Tensor], Tensor]]) -> Tensor:
        head: Any = self.get_submodule("roi_head")
        levels = {name: merged([self._arrived(name, *one) for one in heard]) for name in head.sources}
        return head(boxes, self.second.order, levels)

    def _arrived(self, name: str, tensors: Mapping[str, Tensor], matrix: Tensor) -> VoxelLevel:
        x, y, z = (float(side) * STRIDES[name] for side in self.second.voxel_size)
        x0, y0, z0 = (float(limit) for limit in self.second.lidar_range[:3])
        features, cells = tensors[f"{name}_features"], tensors[f"{name}_cells"].long()
        return VoxelLevel(features, cells, self.second.grids[name], (x0, y0, z0), (x, y, z)).moved(matrix)


def _cloud_of(batch: Mapping[str, Any], row: int) -> Tensor:
    """Points (P, 4) of one agent in its own frame."""
    cloud = batch.get(CLOUD)
    if cloud is None or cloud.shape[1] < 5:
        raise DataError(
            f"the second stage needs '{CLOUD}' with the agent of each point: fusion.core_method intermediate2stage, "
            "fusion.args.proj_first: false."
        )
    return cloud[cloud[:, 0] == row, 1:]


def _moved_boxes(boxes: Tensor, matrix: Tensor) -> Tensor:
    """Boxes (n, 7) in another frame; they stay upright."""
    matrix = matrix.to(boxes)
    centres = transform_points(boxes[:, :3], matrix)
    return torch.cat([centres, boxes[:, 3:6], boxes[:, 6:] + torch.atan2(matrix[1, 0], matrix[0, 0])], dim=1)


def _compared(boxes: Tensor, truth: Tensor, order: str) -> dict[str, Tensor]:
    """Labels of boxes (K, 7) given objects (G, 7): ``cls``, ``iou`` (K, 1), ``reg`` (K, 7)."""
    if not len(boxes) or not len(truth):
        zero = boxes.new_zeros(len(boxes), 1)
        return {"cls": zero, "iou": zero, "reg": boxes.new_zeros(len(boxes), 7)}
    overlap, nearest = iou_3d_matrix(boxes, truth, order).max(dim=1)
    overlap = overlap.to(boxes)[:, None]
    return {"cls": (overlap > POSITIVE_IOU).to(boxes), "iou": overlap, "reg": residuals(truth[nearest], boxes)}
