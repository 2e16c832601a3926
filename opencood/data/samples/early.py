"""Early fusion: all points in the ego's frame, as if one sensor had seen them (spec data.md, 6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.communication import Channel
from opencood.communication.message import points_message
from opencood.data import collate
from opencood.data.draws import Draws
from opencood.data.frame import EGO, Frame
from opencood.data.samples.base import Entry, Sample, SampleMaker, merge_parts
from opencood.data.samples.inputs import check_points, homogeneous_inputs
from opencood.data.samples.labels import BoxSet, label_entry
from opencood.data.samples.pretraining import OWNER, with_owners
from opencood.data.samples.scene import gather, own_cloud, projected
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError
from opencood.geometry.points import points_in_range
from opencood.registry import register


class Early(SampleMaker):
    """Samples whose agents send their points.

    Attributes:
        channel: what the points go through on their way to the ego; None: all arrive as they are.
        first_frame: number of the first frame of this data set for that channel.
    """

    channel: Channel | None = None
    first_frame = 0

    def __init__(self, settings: SampleSettings) -> None:
        super().__init__(settings, homogeneous_inputs(settings))
        self.inputs.need_lidar("early fusion")
        self.uses_noise = not settings.quirk("early_ignores_noise")

    @property
    def needs_clouds(self) -> str:
        """See ``SampleMaker``."""
        return "fusion.core_method: early, which merges clouds"

    def make(self, frame: Frame, draws: Draws) -> Sample | None:
        """Return the sample of a frame."""
        settings = self.settings
        scene = gather(frame, settings.comm_range, self.inputs.takes_part, elect_again=False)
        if scene is None:
            return None
        own = [own_cloud(agent, draws) for agent in scene.agents]
        heard = own if self.channel is None else self._heard(own, self.channel, frame.index)
        clouds = [projected(cloud, scene.to_ego(agent)) for cloud, agent in zip(heard, scene.agents, strict=True)]
        cloud = np.concatenate(with_owners(clouds) if self.inputs.wants_owners else clouds)
        truth = self.merged(self.box_sets([(agent, scene.ego.lidar_pose_clean) for agent in scene.witnesses]))
        entry = self.facts(frame, scene.ids) | {"lidar_pose": scene.poses, "lidar_pose_clean": scene.poses_clean}
        if settings.visualize:
            entry["origin_lidar"] = cloud[:, :OWNER]
        cloud, boxes = settings.augmentation(cloud, truth.boxes, draws)
        truth = BoxSet(truth.ids, boxes).within(settings.point_range, settings.order)
        part = self.inputs.encode(scene.ego, points_in_range(cloud, settings.point_range), draws)
        check_points([part], frame.label, settings.point_range)
        return {EGO: entry | label_entry(truth, settings) | {"parts": [part]}}

    def _heard(self, clouds: Sequence[NDArray[np.float32]], channel: Channel, frame: int) -> list[NDArray[np.float32]]:
        """What the ego, the first agent, hears of all clouds (N, 4); its own it knows."""
        channel.start_frame(self.first_frame + frame)
        heard = list(clouds[:1])
        for number, cloud in enumerate(clouds[1:], start=1):
            message = channel.transmit(points_message(cloud), sender=number, receiver=0)
            heard.append(cloud[:0] if message is None else message.tensors["points"].numpy())
        return heard

    def join(self, entries: Sequence[Entry], draws: Draws) -> dict[str, Any]:
        """Return the joint cloud, the boxes, the targets, and the agents' poses."""
        batch: dict[str, Any] = self.inputs.collate(merge_parts(entries))
        batch |= collate.boxes(entries)
        batch["label_dict"] = collate.labels(entries, self.settings.postprocessor)
        for key in ("lidar_pose", "lidar_pose_clean"):
            batch[key] = collate.joined(entries, key)
        return batch


@register("sample", "early", "EarlyFusionDataset")
def early(settings: SampleSettings) -> Early:
    """Early fusion of LiDAR points.

    Raises:
        ConfigError: the labels or inputs need cameras.
    """
    if settings.label_type != "lidar":
        raise ConfigError("fusion.core_method: early fusion has LiDAR labels only; set label_type: lidar.")
    return Early(replace(settings, proj_first=False))
