"""Late fusion: every agent detects by itself, boxes are exchanged (spec data.md, 6.5, 6.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from opencood.data import collate
from opencood.data.draws import Draws
from opencood.data.frame import EGO, Agent, Frame
from opencood.data.modality import ego_modalities
from opencood.data.samples.base import Entry, Sample, SampleMaker, merge_parts
from opencood.data.samples.inputs import Inputs, check_points, heterogeneous_inputs, homogeneous_inputs
from opencood.data.samples.labels import BoxSet, label_entry
from opencood.data.samples.scene import Scene, gather, projected, shuffled
from opencood.data.samples.settings import SampleSettings
from opencood.geometry.points import points_in_range, remove_own_body
from opencood.registry import register


class Late(SampleMaker):
    """Samples of single agents: one drawn agent in training, all agents in range in testing.

    Args:
        trained: modalities among which training draws; None = all agents.
    """

    def __init__(self, settings: SampleSettings, inputs: Inputs, trained: Sequence[str] | None = None) -> None:
        super().__init__(settings, inputs)
        self.trained = trained
        self.only_ego_cloud = bool(settings.hypes.get("only_vis_ego", True))

    @property
    def own_labels(self) -> bool:
        """Every agent detects by itself, so it also lists for itself."""
        return True

    @property
    def needs_clouds(self) -> str:
        """See ``SampleMaker``."""
        augmented = "data_augment, which changes clouds" if self.settings.augmentation.steps else ""
        return augmented or super().needs_clouds

    @property
    def crops(self) -> tuple[tuple[float, ...], ...]:
        """See ``SampleMaker``."""
        return (self.settings.point_range, *super().crops)

    def make(self, frame: Frame, draws: Draws) -> Sample | None:
        """Return one entry (training), or one per agent (testing); None when no agent has a known modality."""
        if self.settings.train:
            return self._training_sample(frame, draws)
        scene = gather(frame, self.settings.comm_range, self.inputs.takes_part, elect_again=True)
        if scene is None:
            return None
        return {self._name(agent, scene): self._test_entry(agent, scene, draws) for agent in scene.agents}

    def join(self, entries: Sequence[Entry], draws: Draws) -> dict[str, Any]:
        """Return inputs, boxes and targets of several single agents."""
        batch: dict[str, Any] = self.inputs.collate(merge_parts(entries))
        truth = collate.boxes(entries)
        batch |= truth
        batch["label_dict"] = collate.labels(entries, self.settings.postprocessor) | truth
        for key in ("lidar_pose", "lidar_pose_clean"):
            batch[key] = collate.joined(entries, key)
        if self.inputs.heterogeneous:
            batch["modality_name"] = entries[0]["modality_name"]
            batch["agent_modality_list"] = [entry["modality_name"] for entry in entries]
        return batch

    def _training_sample(self, frame: Frame, draws: Draws) -> Sample | None:
        candidates = [agent for agent in frame.agents if self.trained is None or agent.modality in self.trained]
        candidates = [agent for agent in candidates if self.inputs.takes_part(agent)]
        if not candidates:
            return None
        return {EGO: self._entry(draws.python.choice(candidates), frame, draws)}

    def _test_entry(self, agent: Agent, scene: Scene, draws: Draws) -> Entry:
        entry = self._entry(agent, scene.frame, draws, scene.unheard if agent is scene.ego else ())
        entry["transformation_matrix"] = scene.to_ego(agent).astype(np.float32)
        entry["transformation_matrix_clean"] = scene.to_ego_clean(agent).astype(np.float32)
        if "origin_lidar" in entry:
            entry["origin_lidar"] = projected(entry["origin_lidar"], scene.to_ego(agent))
            if agent is not scene.ego and self.only_ego_cloud:
                del entry["origin_lidar"]
        return entry

    def _entry(self, agent: Agent, frame: Frame, draws: Draws, unheard: Sequence[Agent] = ()) -> Entry:
        """The entry of one agent; objects of agents whose messages do not arrive stay ground truth, the ego's."""
        settings = self.settings
        found, *others = self.box_sets([(one, agent.lidar_pose_clean) for one in (agent, *unheard)])
        if others:
            found = self.merged([found, *others])
        entry: Entry = {"lidar_pose": agent.lidar_pose[None], "lidar_pose_clean": agent.lidar_pose_clean[None]}
        cloud, prepared = None, self.prepared.of(agent, draws)
        if prepared is None and self.inputs.wants_cloud(agent):
            cloud = points_in_range(shuffled(agent.lidar.read(), draws), settings.point_range)
            cloud = remove_own_body(cloud)
            cloud, boxes = settings.augmentation(cloud, found.boxes, draws)
            found = BoxSet(found.ids, boxes)
            if settings.visualize:
                entry["origin_lidar"] = cloud[:, :3]
        part = self.inputs.encode(agent, cloud, draws, prepared)
        check_points([part], f"{frame.label}, agent {agent.id}", settings.point_range)
        entry |= self.facts(frame, [agent.id]) | label_entry(found, settings) | {"parts": [part]}
        if agent.modality is not None:
            entry["modality_name"] = agent.modality
        return entry

    @staticmethod
    def _name(agent: Agent, scene: Scene) -> str:
        return EGO if agent is scene.ego else agent.id


@register("sample", "late", "LateFusionDataset")
def late(settings: SampleSettings) -> Late:
    """Late fusion of agents with the same sensors and network."""
    return Late(settings, homogeneous_inputs(settings))


@register("sample", "lateheter", "LateheterFusionDataset")
def late_heterogeneous(settings: SampleSettings) -> Late:
    """Late fusion of agents with different sensors and networks."""
    trained = ego_modalities(settings.hypes["heter"]["ego_modality"])
    return Late(settings, heterogeneous_inputs(settings, label_by_sensor=False), trained)
