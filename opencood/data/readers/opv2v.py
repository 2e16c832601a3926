"""Reader of the OPV2V folder format, which V2XSet and the simulator share (spec data.md, sections 2.1 to 2.3)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from opencood.config.tree import given
from opencood.data import files
from opencood.data.draws import Draws
from opencood.data.files import Entry
from opencood.data.frame import Agent, Camera, Frame, Objects, PointSource, VisibilityMap, is_roadside, roadside_last
from opencood.data.index import Index, Moment, entries_of, folders_of, list_tracks, load_index
from opencood.data.pcd import read_points
from opencood.data.plan import AgentRead, FramePlan, Plan, make_plan
from opencood.data.readers.base import OPV2V, Conventions, ReaderSettings
from opencood.data.readers.opv2v_files import (
    additional_files,
    beside,
    channel_file,
    channel_file_plus,
    lower_resolution_file,
)
from opencood.data.readers.opv2v_metadata import OPV2V as OPV2V_DIALECT
from opencood.data.readers.opv2v_metadata import Dialect, parse_metadata
from opencood.errors import DataError
from opencood.geometry.poses import OPENCV_AXES, poses_to_tfm, x_to_world
from opencood.registry import register

log = logging.getLogger(__name__)

_AGENT = re.compile(r"-?\d+$")
_EXCLUDED_STAMPS = {("2021_08_20_21_10_24", "000265")}  # a broken frame of the published set
_OTHER_FILES = ("additional", "camera_gt")  # words in the names of YAML files that are no metadata


@register("reader", "opv2v")
class OPV2VReader:
    """Frames of a folder ``<scenario>/<agent>/<stamp>.{yaml,pcd,...}``; OPV2V, OPV2V-H and simulated data."""

    # Scenarios that lack a camera and are left out when images are wanted.
    without_cameras: ClassVar[frozenset[str]] = frozenset()
    conventions: ClassVar[Conventions] = OPV2V
    dialect: Dialect = OPV2V_DIALECT

    def __init__(self, settings: ReaderSettings) -> None:
        self.settings = settings
        if not settings.labels:
            self.dialect = self.dialect.unlabelled()
        self._endings = tuple(str(ending) for ending in given(settings.hypes, "add_data_extension") or ())
        self.index = self._open()
        self._plan = Plan([])

    def __len__(self) -> int:
        return len(self._plan)

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Redraw the order and the modalities of agents (only training draws), and how late they are."""
        settings = self.settings
        self._plan = make_plan(
            self.index.tree,
            train=settings.train,
            max_cav=settings.max_cav,
            roster=settings.roster if with_modalities else None,
            draws=draws,
            timing=settings.timing,
            arrange=self._arranged,
        )

    def frame(self, index: int) -> Frame:
        """Return a frame; point clouds and images are not read yet.

        Raises:
            IndexError: there is no such frame.
            DataError: a metadata file is missing or broken.
        """
        plan = self._plan.frame(index)
        agents = tuple(self._agent(plan, read) for read in plan.reads)
        return Frame(index, plan.scenario, plan.stamp, agents)

    def _agent(self, plan: FramePlan, read: AgentRead) -> Agent:
        settings = self.settings
        believed, current = self.index.moment(read.late_row), self.index.moment(read.row)
        # Published systems call the old pose true although they see with current data.
        true = current if settings.pose_only and not settings.published else believed
        folder = settings.root / plan.scenario / read.agent
        seen = folder / (read.stamp if settings.pose_only else read.late_stamp)
        channels = settings.roster.lidar_channels.get(read.modality or "") if settings.roster else None
        return Agent(
            id=read.agent,
            lidar_pose=self.index.moment(read.pose_row).lidar_pose,
            lidar_pose_clean=true.lidar_pose,
            objects=self._objects(believed, current),
            lidar=self._lidar(seen, channels),
            modality=read.modality,
            cameras=_cameras(believed, seen),
            visibility=VisibilityMap(
                additional_files(beside(folder / read.stamp, "_bev_visibility.png")),
                believed.lidar_pose if settings.pose_only else current.lidar_pose,
            ),
            extras={ending: additional_files(beside(folder / read.stamp, f"_{ending}")) for ending in self._endings},
            roadside=is_roadside(read.agent),
            delay=read.delay,
            speed=believed.speed,
            ego_pose_then=self._ego_pose(plan, read.late_stamp) if read.delay else None,
        )

    def _ego_pose(self, plan: FramePlan, stamp: str) -> NDArray[np.float64] | None:
        """(6,) pose of the ego of a frame at another stamp."""
        row = self.index.tree[plan.scenario][plan.reads[0].agent].row(stamp)
        return None if row is None else self.index.moment(row).lidar_pose

    def _lidar(self, stem: Path, channels: int | None) -> PointSource:
        """The cloud beside a metadata file."""
        plus = "plus" in str((given(self.settings.hypes, "heter") or {}).get("assignment_path"))
        file = channel_file_plus if plus else channel_file
        return PointSource(file(beside(stem, ".pcd"), channels), read_points)

    def _objects(self, believed: Moment, current: Moment) -> Objects:
        """What a perhaps late agent contributes to the ground truth: its list of the ego's moment."""
        return Objects(current.object_ids, current.object_corners, current.object_classes)

    def _arranged(self, scenario: str, ids: list[str]) -> list[str]:
        """The agents that take part in a scenario, the ego first; ``ids`` are sorted, or shuffled in training."""
        return roadside_last(ids)

    def _open(self) -> Index:
        settings = self.settings
        if not files.is_dir(settings.root):
            raise DataError(
                f"{settings.root_key}: no folder '{settings.root}' (working directory {Path.cwd()}); "
                "give the folder that holds the scenarios."
            )
        listing = list_tracks(settings.root, self._tracks(), self.dialect.name)
        if not listing.files:
            raise DataError(f"{settings.root_key}: '{settings.root}' holds no <scenario>/<agent>/<stamp>.yaml.")
        index = load_index(settings.root, listing, lambda path: parse_metadata(path, self.dialect))
        self._check(index)
        return index

    def _tracks(self) -> Iterator[tuple[str, str, list[Entry]]]:
        skipped = self.without_cameras if self.settings.cameras else frozenset()
        for scenario in folders_of(self.settings.root):
            if scenario.name in skipped:
                continue
            found = False
            for agent in folders_of(Path(scenario.path)):
                stamps = _metadata_files(Path(agent.path), scenario.name) if _AGENT.match(agent.name) else []
                if stamps:
                    found = True
                    yield scenario.name, agent.name, stamps
            if not found:
                self._complain(f"scenario {scenario.path} has no valid agent: no <agent number>/<stamp>.yaml in it")

    def _check(self, index: Index) -> None:
        problems = list(index.problems.values())
        if problems:
            more = f" ({len(problems)} of {len(index.arrays['object_start']) - 2} metadata files are broken)"
            self._complain(problems[0] + (more if len(problems) > 1 else ""))
        roster = self.settings.roster
        unlisted = [name for name in index.tree if roster and not roster.listed(name)]
        if unlisted:
            closed = roster is not None and roster.closed and len(unlisted) < len(index.tree)
            log.warning(
                "heter.assignment_path misses %d of %d scenarios (first: %s); %s.",
                len(unlisted),
                len(index.tree),
                unlisted[0],
                "they are left out" if closed else "their agents get modalities in turn",
            )

    def _complain(self, message: str) -> None:
        sentence = message if message.endswith((".", "?")) else f"{message}."
        if not self.settings.skip_broken:
            raise DataError(f"{sentence} Repair it, or set 'on_bad_frame: skip' to leave such frames out.")
        log.warning("%s Left out (on_bad_frame: skip).", sentence)


def _cameras(moment: Moment, stem: Path) -> tuple[Camera, ...]:
    if not len(moment.camera_poses):
        return ()
    # Camera poses are evaluated in float32, as published: it decides on which side of a cell border points fall.
    to_world = poses_to_tfm(moment.camera_poses).astype(np.float64)
    to_lidar = (np.linalg.inv(x_to_world(moment.lidar_pose)) @ to_world @ OPENCV_AXES).astype(np.float32)
    return tuple(
        Camera(
            to_lidar[number],
            intrinsic,
            image=beside(stem, f"_camera{number}.png"),
            depth=lower_resolution_file(beside(stem, f"_depth{number}.png")),
        )
        for number, intrinsic in enumerate(moment.camera_intrinsics)
    )


def _metadata_files(agent: Path, scenario: str) -> list[Entry]:
    return [
        entry
        for entry in entries_of(agent)
        if entry.name.endswith(".yaml")
        and not any(word in entry.name for word in _OTHER_FILES)
        and (scenario, entry.name.removesuffix(".yaml")) not in _EXCLUDED_STAMPS
    ]
