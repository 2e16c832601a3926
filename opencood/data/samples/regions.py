"""Labels with the ground that every object covers (GenComm's ``intermediatepnpda``; spec gencomm.md, section 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opencood.data.samples.base import Entry
from opencood.data.samples.inputs import heterogeneous_inputs, homogeneous_inputs
from opencood.data.samples.intermediate import Intermediate
from opencood.data.samples.labels import BoxSet
from opencood.data.samples.settings import SampleSettings
from opencood.geometry.boxes import boxes_to_corners_3d, standup_boxes
from opencood.registry import register


class Regions(Intermediate):
    """Intermediate samples whose labels also hold ``pos_region_ranges`` (M, H, W) bool and ``cav_num``."""

    def labelled(self, found: BoxSet, agents: int) -> Entry:
        """The labels, the nodes of the target grid under every object, and the number of agents."""
        entry = super().labelled(found, agents)
        if self.settings.labels:
            entry = {**entry, "more_labels": {"pos_region_ranges": self._regions(found), "cav_num": np.int64(agents)}}
        return entry

    def _regions(self, found: BoxSet) -> NDArray[np.bool_]:
        """(M, H, W): nodes between the borders of the anchors' range that lie in the standup box of each object."""
        settings = self.settings
        rows, columns = settings.postprocessor.anchors().shape[-4:-2]
        x0, y0, _, x1, y1, _ = settings.anchor_range
        x, y = np.linspace(x0, x1, columns), np.linspace(y0, y1, rows)
        low_x, low_y, high_x, high_y = standup_boxes(boxes_to_corners_3d(found.boxes, settings.order)).T[..., None]
        along, across = (x >= low_x) & (x <= high_x), (y >= low_y) & (y <= high_y)
        regions = np.zeros((settings.max_num, rows, columns), bool)
        regions[: len(found.ids)] = across[:, :, None] & along[:, None, :]
        return regions


@register("sample", "intermediatepnpda", "IntermediatepnpdaFusionDataset")
def intermediate_regions(settings: SampleSettings) -> Regions:
    """Intermediate fusion with regions of objects; heterogeneous where the file has a section ``heter``."""
    if settings.hypes.get("heter"):
        return Regions(settings, heterogeneous_inputs(settings), single_labels=True)
    return Regions(settings, homogeneous_inputs(settings), settings.supervise_single)
