"""Two-stage intermediate fusion (FPV-RCNN): labels for both stages and the raw clouds (spec data.md, 6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from opencood.data import collate
from opencood.data.draws import Draws
from opencood.data.samples.base import Entry
from opencood.data.samples.inputs import homogeneous_inputs
from opencood.data.samples.intermediate import Contribution, Intermediate
from opencood.data.samples.settings import SampleSettings
from opencood.registry import register


class TwoStage(Intermediate):
    """Intermediate samples whose first stage is supervised per agent and whose second stage sees single points."""

    @property
    def needs_clouds(self) -> str:
        """See ``SampleMaker``."""
        return "fusion.core_method: intermediate2stage, whose second stage reads points"

    def join(self, entries: Sequence[Entry], draws: Draws) -> dict[str, Any]:
        """As the intermediate batch, with ``stage1`` and ``stage2`` labels and ``origin_lidar_for_vsa``."""
        batch = super().join(entries, draws)
        postprocessor = self.settings.postprocessor
        single = [one for entry in entries for one in entry["single"]]
        links = {key: batch[key] for key in ("pairwise_t_matrix", "record_len")}
        batch["label_dict"] = {
            "stage1": collate.labels(single, postprocessor),
            "stage2": collate.labels(entries, postprocessor) | links,
        }
        for key in ("label_dict_single", "object_bbx_center_single", "object_bbx_mask_single"):
            batch.pop(key, None)
        batch["origin_lidar_for_vsa"] = self._clouds_with_agent(entries)
        batch["proj_first"] = self.settings.proj_first
        return batch

    def _add_clouds(self, entry: Entry, contributions: Sequence[Contribution]) -> None:
        super()._add_clouds(entry, contributions)
        entry["clouds"] = [one.cloud for one in contributions]

    def _clouds_with_agent(self, entries: Sequence[Entry]) -> torch.Tensor:
        """(N, 5) agent index, x, y, z, intensity; (N, 4) without the index where clouds are in the ego's frame."""
        clouds = [cloud for entry in entries for cloud in entry["clouds"]]
        points = np.concatenate(clouds)
        if self.settings.proj_first:
            return torch.from_numpy(points)
        agent = np.repeat(np.arange(len(clouds), dtype=np.float32), [len(cloud) for cloud in clouds])
        return torch.from_numpy(np.concatenate([agent[:, None], points], axis=1))


@register("sample", "intermediate2stage", "Intermediate2stageFusionDataset")
def intermediate_two_stage(settings: SampleSettings) -> TwoStage:
    """Intermediate fusion of two-stage detectors."""
    inputs = homogeneous_inputs(settings)
    inputs.need_lidar("two-stage fusion")
    return TwoStage(settings, inputs, single_labels=True)
