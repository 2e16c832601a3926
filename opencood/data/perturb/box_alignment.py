"""Pose correction at run time: what pose noise disturbs, boxes that were stored beforehand put right (CoAlign)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame
from opencood.data.plan import within_range
from opencood.data.stored_boxes import DetectedBoxes, StoredBoxes
from opencood.errors import ConfigError, DataError
from opencood.geometry.alignment import AlignmentOptions, align_boxes
from opencood.registry import REGISTRY, Entry, register

log = logging.getLogger(__name__)

_NOTHING = DetectedBoxes(np.zeros((0, 8, 3)), np.zeros((0, 3)), None)
_SAME_PLACE = 1.0  # metres; formats round poses, another frame lies elsewhere


@register("perturbation", "box_alignment")
@dataclass(frozen=True)
class BoxAlignment:
    """Agents within range correct their poses by the boxes that they detected; the ego's pose stays.

    It acts on what the agents believe, so it belongs behind whatever disturbs their poses. It draws nothing.

    Attributes:
        boxes: file of ``pose_graph_pre_calc`` for the split that is read.
        args: see ``AlignmentOptions``.
        comm_range: agents farther from the ego do not take part, metres.
    """

    boxes: str
    args: Mapping[str, Any] | None = None
    comm_range: float = np.inf

    def __post_init__(self) -> None:
        # Fails here, before hours are spent, and is inherited by loader processes.
        self._stored, self._options  # noqa: B018

    @cached_property
    def _stored(self) -> StoredBoxes:
        try:
            return StoredBoxes(Path(self.boxes))
        except DataError as error:
            raise DataError(f"stored boxes for pose correction: {error}") from error

    @cached_property
    def _options(self) -> AlignmentOptions:
        return alignment_options(self.args, self._stored)

    def __call__(self, frame: Frame, draws: Draws | None = None) -> Frame:
        """Return the frame with corrected ``lidar_pose``s of those that take part.

        Raises:
            DataError: the boxes were stored for other frames, or tell no uncertainty although it is to be used.
        """
        detected = self._stored.of(frame.index)
        agents = within_range(frame, self.comm_range).agents
        found = [detected.get(agent.id, _NOTHING) for agent in agents]
        if not any(len(boxes.corners) for boxes in found):
            return frame
        for agent, boxes in zip(agents, found, strict=True):
            self._check_place(frame, agent, boxes)
        poses = np.stack([agent.lidar_pose for agent in agents])
        corners, uncertainty = [boxes.corners for boxes in found], [boxes.uncertainty for boxes in found]
        poses[:, [0, 1, 4]] = align_boxes(corners, poses, uncertainty, self._options).poses
        corrected = {agent.id: pose for agent, pose in zip(agents, poses, strict=True)}
        return replace(
            frame,
            agents=tuple(
                replace(agent, lidar_pose=corrected[agent.id]) if agent.id in corrected else agent
                for agent in frame.agents
            ),
        )

    def _check_place(self, frame: Frame, agent: Agent, boxes: DetectedBoxes) -> None:
        """A late agent was elsewhere when it observed; all others are where the boxes were stored."""
        if boxes.pose is None or agent.delay:
            return
        apart = float(np.linalg.norm(boxes.pose[:3] - agent.lidar_pose_clean[:3]))
        if apart > _SAME_PLACE:
            raise DataError(
                f"{self.boxes}: stored for another data set or split: in {frame.label} agent {agent.id} is {apart:.1f} "
                "m away from where it was stored. Run pose_graph_pre_calc on this split."
            )


def alignment_options(args: Mapping[str, Any] | None, boxes: StoredBoxes) -> AlignmentOptions:
    """Return how boxes correct poses, from ``box_align.args`` and what is told beside the boxes.

    Raises:
        ConfigError: an argument is wrong.
    """
    entry = Entry("pose correction", "box_align", AlignmentOptions)
    told = boxes.anchor_size()
    context = {} if told is None else {"anchor_size": told}
    return AlignmentOptions(**REGISTRY.check_arguments(entry, args, "box_align.args", **context))


def build_box_alignment(section: Mapping[str, Any] | None, train: bool, comm_range: float) -> BoxAlignment | None:
    """Return the correction of a section ``box_align``, or None without one.

    Args:
        section: ``{train_result, val_result, test_result, args}``; testing tools copy the last file to ``val_result``.
        train: training reads ``train_result``, everything else ``val_result``.
        comm_range: metres.

    Raises:
        ConfigError: the file of the split is not named, or an argument is wrong.
        DataError: there is no such file, or it is broken.
    """
    if not section:
        return None
    key = "train_result" if train else "val_result"
    if not section.get(key):
        raise ConfigError(f"box_align.{key}: missing; it names the stored boxes of the split (pose_graph_pre_calc).")
    return BoxAlignment(str(section[key]), section.get("args"), comm_range)
