"""Reader of the OPV2V folder format, which V2XSet and the simulator share (spec data.md, sections 2.1 to 2.3)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Camera, Frame, Objects, PointSource
from opencood.data.index import Index, Moment, entries_of, folders_of, list_tracks, load_index
from opencood.data.modality import Roster
from opencood.data.pcd import read_points
from opencood.data.plan import AgentRead, FramePlan, Plan, make_plan
from opencood.data.readers.opv2v_metadata import parse_metadata
from opencood.errors import DataError
from opencood.registry import register

log = logging.getLogger(__name__)

_AGENT = re.compile(r"-?\d+$")
_EXCLUDED_STAMPS = {("2021_08_20_21_10_24", "000265")}  # a broken frame of the published set
_TREE, _LOWER_RESOLUTION_TREE = "OPV2V", "OPV2V_Hetero"
_SPLITS = ("train", "validate", "test")
_PROBLEMS_SHOWN = 3


@dataclass(frozen=True)
class ReaderSettings:
    """What a reader of the OPV2V family needs.

    Attributes:
        root: folder of scenarios.
        root_key: hypes key that names it, for messages.
        train: training order (shuffled) or test order (sorted).
        max_cav: agents beyond it are left out.
        roster: modalities; None in homogeneous data.
        cameras: whether images are wanted.
        skip_broken: leave broken files to the frames that need them instead of refusing the folder.
    """

    root: Path
    root_key: str
    train: bool
    max_cav: int
    roster: Roster | None = None
    cameras: bool = False
    skip_broken: bool = False


@register("reader", "opv2v")
class OPV2VReader:
    """Frames of a folder ``<scenario>/<agent>/<stamp>.{yaml,pcd,...}``; OPV2V, OPV2V-H and simulated data."""

    # Scenarios that lack a camera and are left out when images are wanted.
    without_cameras: frozenset[str] = frozenset()
    # Camera labels: objects in this range (ego frame) instead of those in the visibility map.
    camera_label_range: tuple[float, ...] | None = None

    def __init__(self, settings: ReaderSettings) -> None:
        self.settings = settings
        self.index = self._open()
        self._plan = Plan([])

    def __len__(self) -> int:
        return len(self._plan)

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Redraw the order and the modalities of agents (only training draws)."""
        settings = self.settings
        roster = settings.roster if with_modalities else None
        tree = self.index.tree
        self._plan = make_plan(tree, train=settings.train, max_cav=settings.max_cav, roster=roster, draws=draws)

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
        moment = self.index.moment(read.row)
        stem = settings.root / plan.scenario / read.agent / read.stamp
        channels = settings.roster.lidar_channels.get(read.modality or "") if settings.roster else None
        return Agent(
            id=read.agent,
            lidar_pose=moment.lidar_pose,
            lidar_pose_clean=moment.lidar_pose,
            objects=Objects(moment.object_ids, moment.object_corners),
            lidar=PointSource(channel_file(beside(stem, ".pcd"), channels), read_points),
            modality=read.modality,
            cameras=_cameras(moment, stem),
            visibility=additional_files(beside(stem, "_bev_visibility.png")),
        )

    def _open(self) -> Index:
        settings = self.settings
        if not settings.root.is_dir():
            raise DataError(
                f"{settings.root_key}: no folder '{settings.root}' (working directory {Path.cwd()}); "
                "give the folder that holds the scenarios."
            )
        listing = list_tracks(settings.root, self._tracks())
        if not listing.files:
            raise DataError(f"{settings.root_key}: '{settings.root}' holds no <scenario>/<agent>/<stamp>.yaml.")
        index = load_index(settings.root, listing, parse_metadata)
        self._check(index)
        return index

    def _tracks(self) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
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
                self._complain(f"scenario {scenario.path} has no valid agent: no <agent number>/<stamp>.yaml in it.")

    def _check(self, index: Index) -> None:
        problems = list(index.problems.values())
        if problems:
            more = f" (and {len(problems) - _PROBLEMS_SHOWN} more)" if len(problems) > _PROBLEMS_SHOWN else ""
            self._complain("; ".join(problems[:_PROBLEMS_SHOWN]) + more)
        roster = self.settings.roster
        unlisted = [name for name in index.tree if roster and not roster.listed(name)]
        if unlisted:
            log.warning(
                "heter.assignment_path misses %d of %d scenarios (first: %s); their agents get modalities in turn.",
                len(unlisted),
                len(index.tree),
                unlisted[0],
            )

    def _complain(self, message: str) -> None:
        if not self.settings.skip_broken:
            raise DataError(f"{message} Repair it, or set 'on_bad_frame: skip' to leave such frames out.")
        log.warning("%s Left out (on_bad_frame: skip).", message)


@register("reader", "v2xset")
class V2XSetReader(OPV2VReader):
    """V2XSet: the OPV2V format with roadside units."""

    without_cameras = frozenset({"2021_09_09_13_20_58"})
    camera_label_range = (-45, -45, -3, 45, 45, 1)


def channel_file(path: Path, channels: int | None) -> Path:
    """Return the file of a sweep with fewer channels (16 or 32), else the path itself (spec data.md, section 2.2)."""
    if channels not in (16, 32):
        return path
    return lower_resolution_tree(path.with_name(f"{path.stem}_{channels}{path.suffix}"))


def lower_resolution_tree(path: Path) -> Path:
    """Return the twin of a path in the OPV2V-H tree; a path outside a folder OPV2V keeps its folder."""
    folders = list(path.parts[:-1])
    named = [position for position, name in enumerate(folders) if name == _TREE]
    similar = [position for position, name in enumerate(folders) if _TREE in name]
    if not similar:
        return path
    place = (named or similar)[-1]
    folders[place] = folders[place].replace(_TREE, _LOWER_RESOLUTION_TREE)
    return Path(*folders, path.name)


def additional_files(path: Path) -> tuple[Path, ...]:
    """Return where an additional file may lie: beside the frame, or in the tree ``additional/<split>``."""
    parts = list(path.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] in _SPLITS:
            return path, Path(*parts[:position], "additional", *parts[position:])
    return (path,)


def beside(stem: Path, ending: str) -> Path:
    """Return the file of a frame with an ending such as ``_camera0.png``."""
    return stem.with_name(stem.name + ending)


def _cameras(moment: Moment, stem: Path) -> tuple[Camera, ...]:
    return tuple(
        Camera(
            pose,
            intrinsic,
            image=beside(stem, f"_camera{number}.png"),
            depth=lower_resolution_tree(beside(stem, f"_depth{number}.png")),
        )
        for number, (pose, intrinsic) in enumerate(zip(moment.camera_poses, moment.camera_intrinsics, strict=True))
    )


def _metadata_files(agent: Path, scenario: str) -> list[os.DirEntry[str]]:
    return [
        entry
        for entry in entries_of(agent)
        if entry.name.endswith(".yaml")
        and "additional" not in entry.name
        and (scenario, entry.name.removesuffix(".yaml")) not in _EXCLUDED_STAMPS
    ]
