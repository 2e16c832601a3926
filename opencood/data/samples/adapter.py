"""STAMP's adapter training: every agent as itself and as the protocol (spec data.md, section 10; gencomm.md, 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from opencood.data import collate
from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.pictures import first_existing, read_picture
from opencood.data.samples.base import Entry, anchors_of
from opencood.data.samples.by_modality import protocol_of, sections_of
from opencood.data.samples.inputs import heterogeneous_inputs
from opencood.data.samples.intermediate import Intermediate
from opencood.data.samples.labels import BoxSet, label_entry, label_rule
from opencood.data.samples.scene import Scene
from opencood.data.samples.settings import SampleSettings, read_settings
from opencood.errors import ConfigError
from opencood.registry import register

_RASTERS = ("bev_visibility_corp.png", "bev_dynamic.png", "bev_static.png", "bev_lane.png")


class Adapter(Intermediate):
    """Intermediate samples in which every agent is encoded twice and labelled with the anchors of each modality.

    Args:
        settings: those of the ego's modality.
        modalities: settings of every modality, the protocol included.
        protocol: its name.
    """

    def __init__(self, settings: SampleSettings, modalities: Mapping[str, SampleSettings], protocol: str) -> None:
        super().__init__(settings, heterogeneous_inputs(settings, also=protocol), single_labels=True)
        self.modalities = modalities
        self.protocol = protocol
        self.rules = {name: label_rule(one, self.own_labels) for name, one in modalities.items()}
        listed = settings.hypes.get("add_data_extension") or ()
        self.rasters = tuple(name for name in _RASTERS if name in listed)

    def join(self, entries: Sequence[Entry], draws: Draws) -> dict[str, Any]:
        """As the intermediate batch, with labels for the protocol and for every modality of single agents."""
        batch = super().join(entries, draws)
        batch["label_dict_protocol"] = self._targets([entry["protocol"] for entry in entries], self.protocol)
        alone = [one for entry in entries for one in entry["alone"]]
        for name in self.modalities:
            own = [one for modality, one in alone if modality == name]
            if own:
                batch[f"label_dict_{name}"] = self._targets(own, name)
        for name in self.rasters:
            key = PurePath(name).stem
            batch["label_dict"] |= {key: collate.stacked(entries, key)}
        if not self.settings.train:
            batch["anchor_box_dict"] = {name: anchors_of(one) for name, one in self.modalities.items()}
        origins = [name for entry in entries for name in entry.get("origin_modalities", ())]
        if origins:
            batch["origin_lidar_modality"] = origins
        return batch

    def _targets(self, entries: Sequence[Entry], modality: str) -> Mapping[str, Any]:
        return collate.labels(entries, self.modalities[modality].postprocessor) | collate.boxes(entries)

    def _complete(self, entry: Entry, scene: Scene, truth: BoxSet) -> None:
        super()._complete(entry, scene, truth)
        reference = scene.ego.lidar_pose_clean
        entry["protocol"] = self._labelled_as(self.protocol, scene.witnesses, reference)
        entry["alone"] = [
            (agent.modality, self._labelled_as(str(agent.modality), (agent,), self.single_reference(agent)))
            for agent in scene.agents
        ]
        entry |= scene.transforms()
        entry |= {PurePath(name).stem: _raster(scene.ego, name) for name in self.rasters}
        if "origin_lidar" in entry:
            entry["origin_modalities"] = [agent.modality for agent in scene.agents]

    def _labelled_as(self, modality: str, agents: Sequence[Agent], reference: np.ndarray) -> Entry:
        """Labels of what agents list, in a frame of reference, with the anchors and ranges of a modality."""
        settings, rule = self.modalities[modality], self.rules[modality]
        sets = [BoxSet.nothing()]
        if settings.labels:
            sets = [rule.boxes(agent, reference, self.inputs.label_type(agent)) for agent in agents]
        return label_entry(self.merged(sets), settings)


def _raster(agent: Agent, ending: str) -> np.ndarray:
    """(H, W, 3) uint8 of a drawn map, its channels blue, green, red."""
    if ending not in agent.extras:
        raise ConfigError(f"add_data_extension: '{ending}': this data set has no such files.")
    return np.ascontiguousarray(np.asarray(read_picture(first_existing(agent.extras[ending]), "RGB"))[..., ::-1])


@register("sample", "intermediateheteradapter", "IntermediateheteradapterFusionDataset")
def intermediate_adapter(settings: SampleSettings) -> Adapter:
    """Samples for training STAMP's adapters: every agent as its own modality and as the protocol.

    Raises:
        ConfigError: there is no protocol modality.
    """
    protocol = protocol_of(settings.hypes)
    names = settings.hypes["heter"]["modality_setting"]
    if protocol not in names:
        raise ConfigError(f"heter.modality_setting.{protocol}: missing; STAMP needs the protocol modality.")
    hypes = {**settings.hypes, "input_source": ["lidar", "camera", "depth"]}  # published: whatever is asked for
    modalities = {
        name: read_settings(sections_of(hypes, name), settings.train, settings.visualize, settings.conventions)
        for name in names
    }
    return Adapter(replace(settings, hypes=hypes), modalities, protocol)
