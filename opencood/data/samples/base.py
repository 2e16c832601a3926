"""What every sample class offers the data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from opencood.config.flavor import flavor_of
from opencood.data import collate
from opencood.data.draws import Draws
from opencood.data.frame import EGO, Agent, Frame
from opencood.data.samples.inputs import Inputs
from opencood.data.samples.labels import BoxSet, label_rule, merged, merged_by_overlap
from opencood.data.samples.prepared import PreparedVoxels
from opencood.data.samples.settings import SampleSettings

Entry = dict[str, Any]
Sample = dict[str, Entry]


class SampleMaker(ABC):
    """Turns frames into samples, and samples into batches.

    A sample maps agents to entries: ``ego`` alone, or one per agent in late-fusion tests.

    Args:
        settings: see ``SampleSettings``.
        inputs: what the agents' sensors turn into.
    """

    uses_noise = True

    @property
    def needs_clouds(self) -> str:
        """Why samples need the points themselves, so that voxels made in advance are of no use; empty: they do not."""
        return "raw clouds are wanted, to draw them" if self.settings.visualize else ""

    @property
    def crops(self) -> tuple[tuple[float, ...], ...]:
        """The ranges that clouds are cut to before they are encoded."""
        return self.inputs.crops

    @property
    def own_labels(self) -> bool:
        """Whether every agent contributes what it lists for itself, where data sets also list objects for all."""
        return self.inputs.heterogeneous

    def __init__(self, settings: SampleSettings, inputs: Inputs) -> None:
        self.settings = settings
        self.inputs = inputs
        self.rule = label_rule(settings, self.own_labels)
        self.prepared = PreparedVoxels(settings, inputs, self.crops, self.needs_clouds)
        self._anchors = _shared(anchors_of(settings))

    @abstractmethod
    def make(self, frame: Frame, draws: Draws) -> Sample | None:
        """Return the sample of a frame, or None when no agent takes part.

        Raises:
            DataError: a file is broken, or no point lies in range.
        """

    @abstractmethod
    def join(self, entries: Sequence[Entry], draws: Draws) -> dict[str, Any]:
        """Return the batch of several entries."""

    def collate(self, samples: Sequence[Sample], train: bool, draws: Draws) -> dict[str, dict[str, Any]]:
        """Return the batch: agent -> entries as tensors."""
        if train:
            return {EGO: self._batch([sample[EGO] for sample in samples], train, draws)}
        (sample,) = samples
        return {agent: self._batch([entry], train, draws) for agent, entry in sample.items()}

    def _batch(self, entries: Sequence[Entry], train: bool, draws: Draws) -> dict[str, Any]:
        batch = self.join(entries, draws)
        batch["anchor_box"] = self._anchors
        batch["object_ids"] = entries[0]["object_ids"]
        if all("origin_lidar" in entry for entry in entries):
            batch["origin_lidar"] = collate.raw_clouds(entries, draws)
        if not train:
            for key in ("transformation_matrix", "transformation_matrix_clean"):
                batch[key] = torch.from_numpy(entries[0][key]) if key in entries[0] else collate.identity()
            for key in ("sample_idx", "cav_id_list"):
                batch[key] = entries[0][key]
            if self.settings.several_classes:
                batch["num_anchors_per_location"] = [anchors.shape[2] for anchors in batch["anchor_box"]]
            elif flavor_of(self.settings.hypes) in ("gencomm", "stamp"):
                batch["num_anchors_per_location"] = None
        return batch

    def boxes_of(self, agent: Agent, reference: Any) -> BoxSet:
        """Boxes of the agent's objects in the frame of a reference pose (6,)."""
        return self.box_sets([(agent, reference)])[0]

    def box_sets(self, wanted: Sequence[tuple[Agent, Any]]) -> list[BoxSet]:
        """The same of several agents and references at once, which takes hardly longer than one."""
        sets = [BoxSet.nothing()] * len(wanted)
        if not self.settings.labels:
            return sets
        kinds = [self.inputs.label_type(agent) for agent, _ in wanted]
        for kind in dict.fromkeys(kinds):
            rows = [row for row, other in enumerate(kinds) if other == kind]
            for row, found in zip(rows, self.rule.box_sets([wanted[row] for row in rows], kind), strict=True):
                sets[row] = found
        return sets

    def merged(self, sets: Sequence[BoxSet]) -> BoxSet:
        """All objects of several agents in one frame, each once."""
        if self.own_labels and not self.settings.conventions.common_ids:
            return merged_by_overlap(sets, self.settings.order)
        return merged(sets)

    def facts(self, frame: Frame, ids: Sequence[str]) -> Entry:
        """What names the sample."""
        names = [int(name) for name in ids] if self.settings.conventions.integer_ids else list(ids)
        return {"sample_idx": frame.index, "cav_id_list": names}


def anchors_of(settings: SampleSettings) -> torch.Tensor | list[torch.Tensor]:
    """Anchors (H, W, K, 7); of several classes a list of them, in the order of the classes."""
    anchors = torch.from_numpy(settings.postprocessor.anchors())
    return list(anchors) if settings.several_classes else anchors


def _shared(anchors: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """The same in shared memory: loader processes send where they are instead of a copy with every batch."""
    if isinstance(anchors, list):
        return [anchors_of_class.clone().share_memory_() for anchors_of_class in anchors]
    return anchors.clone().share_memory_()


def merge_parts(entries: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The inputs of all agents of all entries in order."""
    return [part for entry in entries for part in entry["parts"]]
