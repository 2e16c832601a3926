"""What the data set asks of a reader, whatever the format, and what a reader is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.modality import Roster
from opencood.data.perturb.timing import Timing


@dataclass(frozen=True)
class Conventions:
    """What samples must know about a format, where formats differ; the defaults are those of OPV2V.

    Attributes:
        camera_label_range: camera labels are all objects in this range; None = what the agent's maps or lists say.
        label_margin: labels are all objects in the anchors' range, so many metres higher and lower; None = in the range
            of the split (training: the anchors', testing: ``gt_range``).
        label_corners: so many corners in range make a label; None = all.
        common_ids: agents call the same object by the same id; otherwise overlapping boxes are one object.
        agent_frame_labels: an agent's own labels are written in its LiDAR frame, so that published systems carry them
            over with its noisy pose.
        integer_ids: agents are numbers in batches, not text.
        default_comm_range: ``comm_range`` in metres when absent; None = that of the repository.
        default_max_cav: ``train_params.max_cav`` when absent; None = that of the repository.
        default_gt_range: ``postprocess.gt_range`` when absent, as in files of repositories where it is a constant.
        cameras: agents have so many cameras at most, whatever the configuration lists; None = no limit.
        closed: only the scenarios and agents of the modality assignment take part, in its order.
    """

    camera_label_range: tuple[float, ...] | None = None
    label_margin: float | None = None
    label_corners: int | None = None
    common_ids: bool = True
    agent_frame_labels: bool = False
    integer_ids: bool = False
    default_comm_range: float | None = None
    default_max_cav: int | None = None
    default_gt_range: tuple[float, ...] | None = None
    cameras: int | None = None
    closed: bool = False


# The range of evaluation is that of the OPV2V paper (Xu et al., ICRA 2022), with the heights of its detectors.
OPV2V = Conventions(default_gt_range=(-140, -40, -3, 140, 40, 1))


@dataclass(frozen=True)
class ReaderSettings:
    """What a reader needs.

    Attributes:
        root: folder of scenarios, or the file that lists the frames of the split.
        root_key: hypes key that names it, for messages.
        train: training order (shuffled) or test order (sorted).
        max_cav: agents beyond it are left out.
        roster: modalities; None in homogeneous data.
        cameras: whether images are wanted.
        skip_broken: leave broken files to the frames that need them instead of refusing the folder.
        own_labels: every agent's labels are its own list, where the format also has lists for all agents together.
        camera_labels: whether lists of what cameras see are wanted.
        labels: whether there is any ground truth; otherwise no list of objects is opened.
        published: reproduce published behaviour, defects included.
        timing: how old the observations of the other agents are; None = not at all.
        pose_only: a late agent has an old pose but current sensor data, as published by GenComm (spec data.md, Q9).
        hypes: the whole configuration, for keys of one format.
    """

    root: Path
    root_key: str
    train: bool
    max_cav: int
    roster: Roster | None = None
    cameras: bool = False
    skip_broken: bool = False
    own_labels: bool = False
    camera_labels: bool = False
    labels: bool = True
    published: bool = True
    timing: Timing | None = None
    pose_only: bool = False
    hypes: Mapping[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """Frames of one split of a data set.

    Attributes:
        conventions: how its labels and names are to be read.
    """

    conventions: ClassVar[Conventions]

    def __len__(self) -> int:
        """Number of frames."""

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Start an epoch: training draws the order and the modalities of agents anew, delays may be drawn."""

    def frame(self, index: int) -> Frame:
        """Return a frame whose sensor files are not read yet.

        Raises:
            IndexError: there is no such frame.
            DataError: its metadata is missing or broken.
        """
