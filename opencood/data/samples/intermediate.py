"""Intermediate fusion: inputs of every agent, transforms between them, one ground truth (spec data.md, 6.1, 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.batch import Deferred
from opencood.config.flavor import flavor_of
from opencood.config.tree import given
from opencood.data import collate
from opencood.data.draws import Draws
from opencood.data.frame import EGO, Agent, Frame
from opencood.data.samples.base import Entry, Sample, SampleMaker, merge_parts
from opencood.data.samples.by_modality import protocol_of
from opencood.data.samples.ground import ground_labels
from opencood.data.samples.inputs import Inputs, Part, check_points, heterogeneous_inputs, homogeneous_inputs
from opencood.data.samples.labels import BoxSet, foreground_entry, label_entry
from opencood.data.samples.scene import Scene, gather, own_cloud, projected
from opencood.data.samples.settings import SampleSettings
from opencood.geometry.points import points_in_range
from opencood.geometry.postprocessors import CameraBevPostprocessor
from opencood.registry import REGISTRY, register

# GenComm's names of the same samples with several classes, which the post-processor tells by itself.
_MULTI_CLASS = ("intermediateheterv2xreal", "intermediatev2xrealheter")
# Repositories whose batches tell how every agent moves and how late it is.
_TELLS_MOTION = ("opencood", "coopre", "v2xreal", "v2v4real")


@dataclass(frozen=True)
class Contribution:
    """What one agent brings to the sample.

    Attributes:
        part: its encoder inputs by batch key.
        cloud: (N, 4) float32 in its own frame (the ego's with ``proj_first``), or None where it was not wanted.
        in_ego: the same points in the ego's frame, or None where nobody asks for them.
        teacher: ``in_ego`` as the distillation teacher gets it, or None.
    """

    part: Part
    cloud: NDArray[np.float32] | None
    in_ego: NDArray[np.float32] | None
    teacher: NDArray[np.float32] | None


class Intermediate(SampleMaker):
    """Samples of agents that exchange features.

    Args:
        single_labels: labels of every agent alone are made.
        fused_agents: only so many agents are encoded; the ground truth stays that of all.
    """

    def __init__(
        self, settings: SampleSettings, inputs: Inputs, single_labels: bool, fused_agents: int | None = None
    ) -> None:
        super().__init__(settings, inputs)
        self.single_labels = single_labels
        self.fused_agents = fused_agents
        self.distils = bool(given(settings.hypes, "kd_flag"))
        if self.distils:
            inputs.need_lidar("kd_flag")
        self.tells_motion = not inputs.heterogeneous and flavor_of(settings.hypes) in _TELLS_MOTION
        fusion_args = settings.hypes["fusion"].get("args") or {}
        self.past_ego = self.tells_motion and not fusion_args.get("cur_ego_pose_flag", True)
        # Segmentation learns maps of the ground.
        self.draws_ground = settings.labels and isinstance(settings.postprocessor, CameraBevPostprocessor)
        self.foreground = settings.labels and flavor_of(settings.hypes) == "codealign"

    @property
    def needs_clouds(self) -> str:
        """See ``SampleMaker``."""
        if self.settings.proj_first:
            return "fusion.args.proj_first: true, so that clouds are encoded in the ego's frame"
        if given(self.settings.hypes, "kd_flag"):
            return "kd_flag: the teacher is given the points of all agents"
        return super().needs_clouds

    def make(self, frame: Frame, draws: Draws) -> Sample | None:
        """Return the sample of a frame, or None when no agent has a known modality."""
        settings = self.settings
        scene = gather(frame, settings.comm_range, self.inputs.takes_part, elect_again=not settings.published)
        if scene is None:
            return None
        agents = (self.rule.looked_up(agent, self.inputs.label_type(agent)) for agent in scene.agents)
        scene = replace(scene, agents=tuple(agents), past_ego=self.past_ego)
        fused = scene.agents[: self.fused_agents]
        contributions = [self._contribution(agent, scene, draws) for agent in fused]
        parts = [contribution.part for contribution in contributions]
        check_points(parts, frame.label, settings.point_range)
        truth, alone = self._boxes(scene, fused)
        entry = self.facts(frame, scene.ids) | self.labelled(truth, len(fused))
        entry |= {
            "parts": parts,
            "agents": len(fused),
            "modalities": [agent.modality for agent in fused],
            "lidar_pose": scene.poses,
            "lidar_pose_clean": scene.poses_clean,
            "pairwise_t_matrix": scene.pairwise(settings.max_cav, settings.proj_first),
            "single": [self.labelled(found, 1) for found in alone],
        }
        self._add_clouds(entry, contributions)
        self._complete(entry, scene, truth)
        return {EGO: entry}

    def labelled(self, found: BoxSet, agents: int) -> Entry:
        """The labels of objects that so many agents look for."""
        return label_entry(found, self.settings)

    def _complete(self, entry: Entry, scene: Scene, truth: BoxSet) -> None:
        """What is made of the whole scene besides."""
        if self.tells_motion:
            entry |= scene.motion(self.settings.max_cav)
        if self.draws_ground:
            entry["more_labels"] = ground_labels(
                scene.ego,
                self.settings.anchor_range,
                self.settings.voxel_size,
                self.settings.hypes.get("add_data_extension") or (),
            )
        if self.foreground:
            entry |= foreground_entry(truth, self.settings)
        if self.fused_agents is not None and flavor_of(self.settings.hypes) == "codealign":
            entry |= scene.transforms()

    def join(self, entries: Sequence[Entry], draws: Draws) -> dict[str, Any]:
        """Return inputs, labels, poses and transforms; the first axis of single labels and poses is all agents."""
        batch: dict[str, Any] = self.inputs.collate(merge_parts(entries))
        truth = collate.boxes(entries)
        batch |= truth
        batch["record_len"] = torch.tensor([entry["agents"] for entry in entries])
        batch["pairwise_t_matrix"] = collate.stacked(entries, "pairwise_t_matrix")
        if self.tells_motion:
            batch |= {key: collate.stacked(entries, key) for key in ("prior_encoding", "spatial_correction_matrix")}
        batch["label_dict"] = self._labels(entries) | truth | _links(batch)
        for key in ("lidar_pose", "lidar_pose_clean"):
            batch[key] = collate.joined(entries, key)
        if self.inputs.heterogeneous:
            batch["agent_modality_list"] = [name for entry in entries for name in entry["modalities"]]
        if self.single_labels:
            single = [one for entry in entries for one in entry["single"]]
            alone = collate.boxes(single, "_single")
            batch |= alone
            batch["label_dict_single"] = collate.labels(single, self.settings.postprocessor) | alone
        if self.distils:
            batch |= self._teacher_inputs(entries)
        return batch

    def _labels(self, entries: Sequence[Entry]) -> dict[str, Any] | Deferred:
        # lists, because samples differ in their number of boxes
        keys = ("gt_boxes", "foreground_map") if self.foreground else ()
        lists = {key: [torch.from_numpy(entry[key]) for entry in entries] for key in keys}
        return collate.labels(entries, self.settings.postprocessor) | lists

    def _contribution(self, agent: Agent, scene: Scene, draws: Draws) -> Contribution:
        cloud = in_ego = teacher = None
        prepared = self.prepared.of(agent, draws)
        if prepared is None and self.inputs.wants_cloud(agent):
            cloud = own_cloud(agent, draws)
            if self.settings.proj_first or self.settings.visualize or self.distils:
                in_ego = projected(cloud, scene.to_ego(agent))
            cloud = in_ego if self.settings.proj_first else cloud
        if self.distils and in_ego is not None:
            teacher = in_ego.copy()
            teacher[draws.numpy.randint(0, len(teacher)), :3] = 0  # published: one random point is moved to the origin
        return Contribution(self.inputs.encode(agent, cloud, draws, prepared), cloud, in_ego, teacher)

    def single_reference(self, agent: Agent) -> NDArray[np.float64]:
        """Pose (6,) of the frame of single labels: the agent's, which published systems take noisy (data.md, Q5)."""
        return agent.lidar_pose if self.settings.quirk("single_labels_noisy_pose") else agent.lidar_pose_clean

    def _boxes(self, scene: Scene, fused: Sequence[Agent]) -> tuple[BoxSet, list[BoxSet]]:
        """The ground truth of the scene, and where labels of single agents are wanted that of each of them."""
        witnesses = [(agent, scene.ego.lidar_pose_clean) for agent in scene.witnesses]
        alone = [(agent, self.single_reference(agent)) for agent in fused] if self.single_labels else []
        sets = self.box_sets(witnesses + alone)
        return self.merged(sets[: len(witnesses)]), sets[len(witnesses) :]

    def _add_clouds(self, entry: Entry, contributions: Sequence[Contribution]) -> None:
        clouds = [one.in_ego[:, :3] for one in contributions if one.in_ego is not None]
        if self.settings.visualize and clouds:
            entry["origin_lidar"] = np.concatenate(clouds)
        teachers = [one.teacher for one in contributions if one.teacher is not None]
        if teachers:
            everything = points_in_range(np.concatenate(teachers), self.settings.point_range)
            entry["teacher"] = self._teacher_preprocessor.preprocess(everything)
        entry["projected"] = [self._projected_part(*pair) for pair in zip(entry["parts"], contributions, strict=True)]

    def _projected_part(self, part: Part, one: Contribution) -> Part:
        """The LiDAR inputs of an agent once more, made of the teacher's copy of its cloud."""
        if one.teacher is None:
            return {}
        lidars = self.inputs.lidar_inputs()
        return {key: lidars[key].preprocessor.preprocess(one.teacher) for key in part if key in lidars}

    @property
    def _teacher_preprocessor(self) -> Any:
        return next(iter(self.inputs.lidar_inputs().values())).preprocessor

    def _teacher_inputs(self, entries: Sequence[Entry]) -> dict[str, Any]:
        again = self.inputs.collate([part for entry in entries for part in entry["projected"]])
        batch: dict[str, Any] = {f"{key}_proj": values for key, values in again.items()}
        teachers = [entry["teacher"] for entry in entries if "teacher" in entry]
        if len(teachers) == len(entries):
            batch["teacher_processed_lidar"] = self._teacher_preprocessor.collate(teachers)
        return batch


def _links(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: batch[key] for key in ("pairwise_t_matrix", "record_len")}


@register("sample", "intermediate", "IntermediateFusionDataset")
def intermediate(settings: SampleSettings) -> Intermediate:
    """Intermediate fusion of agents with the same sensors and network."""
    return Intermediate(settings, homogeneous_inputs(settings), settings.supervise_single)


@register("sample", "intermediateheter", "IntermediateheterFusionDataset", *_MULTI_CLASS)
def intermediate_heterogeneous(settings: SampleSettings) -> Intermediate:
    """Intermediate fusion of agents with different sensors and networks.

    ``fusion.stamp`` makes samples for STAMP's adapters where there is a protocol; STAMP's inference has none.
    """
    speaks = protocol_of(settings.hypes) in settings.hypes["heter"]["modality_setting"]
    if speaks and settings.hypes["fusion"].get("stamp"):
        return REGISTRY.get("sample", "intermediateheteradapter").target(settings)
    return Intermediate(settings, heterogeneous_inputs(settings), single_labels=True)


@register(
    "sample",
    "intermediateheterinfer",
    "IntermediateheterinferFusionDataset",
    *(f"{name}infer" for name in _MULTI_CLASS),
)
def intermediate_heterogeneous_inference(settings: SampleSettings) -> Intermediate:
    """As intermediateheter, but only the first ``use_cav`` agents are encoded."""
    use_cav = settings.hypes.get("use_cav")
    return Intermediate(settings, heterogeneous_inputs(settings), True, None if use_cav is None else int(use_cav))
