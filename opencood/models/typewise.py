"""STAMP's detectors in which every type of agent detects for itself: its own fusion, its own heads, outputs by type.

Source: spec homogeneous.md 5, gencomm.md 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from opencood.communication import Message
from opencood.errors import DataError
from opencood.models.builder import AssemblyBuilder, build_detector
from opencood.models.context import Context
from opencood.models.detector import Detector
from opencood.models.links.adapter_grid import fit_range
from opencood.models.parts import modalities
from opencood.models.scene import SceneFeatures

PROTOCOL = "m0"
NATIVE, ADAPTED = "map", "protocol"


class TypewiseDetector(Detector):
    """What is common: maps by type, who is where, outputs by type.

    Outputs: a dict per type that is present, under its name, and those of the egos' type at the top as well, so that
    losses and post-processing read them like any detector's.

    Attributes:
        ranges: x0, y0, z0, x1, y1, z1 in metres that the maps of each type cover.
    """

    ranges: Mapping[str, Sequence[float]]

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """From a batch with ``inputs_<type>``; agents of types that are not built are left out.

        Raises:
            DataError: no agent of a known type, or the egos are of several types.
        """
        listed = list(batch.get("agent_modality_list") or ())
        keep = [name in self._chains for name in listed]
        names = tuple(name for name, kept in zip(listed, keep, strict=True) if kept)
        if not names:
            raise DataError(f"the batch holds no agent of {', '.join(self._chains)}; it lists {', '.join(listed)}.")
        counts = tuple(int(n) for n in batch["record_len"])
        scene = SceneFeatures((), counts, batch["pairwise_t_matrix"]).select(keep)
        scene = replace(scene, record_len=tuple(n for n in scene.record_len if n), modality=names)
        own, aux = self._own_maps(batch, names, listed)
        return aux | self._with_egos_on_top(self.by_type(own, scene), scene)

    def by_type(self, own: Mapping[str, Tensor], scene: SceneFeatures) -> dict[str, dict[str, Any]]:
        """Outputs by type, given the maps (n, C, H, W) of each type's agents and the layout of all agents."""
        raise NotImplementedError

    def _own_maps(
        self, batch: Mapping[str, Any], names: tuple[str, ...], listed: list[str]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        maps: dict[str, Tensor] = {}
        aux: dict[str, Any] = {}
        for m in dict.fromkeys(names):
            # Samples for adapters prepare every agent as the protocol, too.
            everybody = m == PROTOCOL and "label_dict_protocol" in batch
            levels, extra = self._see(m, batch[f"inputs_{m}"], len(listed) if everybody else names.count(m))
            rows = [row for row, name in enumerate(listed) if name == m]
            maps[m] = levels[0][rows] if everybody else levels[0]
            aux |= {f"{stem}_{m}": value for stem, value in extra.items()}
        return maps, aux

    def _with_egos_on_top(self, outputs: dict[str, dict[str, Any]], scene: SceneFeatures) -> dict[str, Any]:
        types = sorted({scene.modality[row] for row in scene.egos})
        if len(types) > 1:
            raise DataError(f"all egos of a batch are of one type, not {', '.join(types)}.")
        return {**self.of_egos(outputs[types[0]], scene), **outputs}

    def of_egos(self, outputs: Mapping[str, Any], scene: SceneFeatures) -> Mapping[str, Any]:
        """The outputs of the egos, given those of their type."""
        return outputs


class LateTypes(TypewiseDetector):
    """Late fusion: every agent goes through the fusion of its type alone, scores perhaps calibrated by type.

    The outputs of a type are those of its agents, in their order in the batch (n, ...).
    """

    detects_by_agent = True

    def by_type(self, own: Mapping[str, Tensor], scene: SceneFeatures) -> dict[str, dict[str, Any]]:
        """See the base."""
        outputs = {}
        for m, level in own.items():
            here = torch.eye(4, device=level.device).expand(len(level), 1, 1, 4, 4)
            alone = SceneFeatures(
                (level,), (1,) * len(level), here, extent_of(self.ranges[m]), modality=(m,) * len(level)
            )
            backend = self._backends[m]
            fused = backend.fuse(alone)
            found = {**fused.aux, **backend.detect(fused)}
            calibrator = dict(self.named_children()).get(f"calibrator_{m}")
            if calibrator is not None and "cls_preds" in found:
                found["cls_preds"] = calibrator(found["cls_preds"])
            outputs[m] = found
        return outputs

    def of_egos(self, outputs: Mapping[str, Any], scene: SceneFeatures) -> Mapping[str, Any]:
        """Rows of the egos among the agents of their type."""
        own = scene.modality[0]
        of_type = [row for row, name in enumerate(scene.modality) if name == own]
        rows = [of_type.index(row) for row in scene.egos]
        words = {key: value for key, value in outputs.items() if isinstance(value, str)}
        return words | {key: value[rows] for key, value in outputs.items() if isinstance(value, Tensor)}


class CollaborativeTypes(TypewiseDetector):
    """Every type reads the others through the protocol: its reverter of their adapters' maps, its own as they are.

    The outputs of a type are those of the scenes in the frame of their egos (B, ...). With a channel and in eval mode
    every agent's message is metered for the type of the ego, which is what really travels.

    Attributes:
        protocol_output: outputs of the protocol's own detector are published too (as ``m0``).
    """

    protocol_output = False

    def by_type(self, own: Mapping[str, Tensor], scene: SceneFeatures) -> dict[str, dict[str, Any]]:
        """See the base."""
        adapted = {m: level if m == PROTOCOL else self._part("adapter", m)(level) for m, level in own.items()}
        own, adapted, scene = self._heard(own, adapted, scene)
        types = [*own, PROTOCOL] if self.protocol_output and PROTOCOL not in own else list(own)
        return {m: self._seen_by(m, own, adapted, scene) for m in types if m in self._backends}

    def _seen_by(
        self, reader: str, own: Mapping[str, Tensor], adapted: Mapping[str, Tensor], scene: SceneFeatures
    ) -> dict[str, Any]:
        maps = {m: own[m] if m == reader else self._read(reader, m, adapted[m]) for m in own}
        rows = [row for m in maps for row, name in enumerate(scene.modality) if name == m]
        level = torch.cat(list(maps.values()))[torch.tensor(rows).argsort()]
        backend = self._backends[reader]
        fused = backend.fuse(replace(scene, maps=(level,), extent=extent_of(self.ranges[reader])))
        return {**fused.aux, **backend.detect(fused)}

    def _read(self, reader: str, sender: str, protocol: Tensor) -> Tensor:
        """The sender's protocol map in the reader's format and on its grid."""
        pads = sender == PROTOCOL or self._part("adapter", sender).pads
        covered = self.ranges[PROTOCOL if pads and PROTOCOL in self.ranges else sender]
        if reader == PROTOCOL:
            return fitted(protocol, covered, self.ranges[reader])
        reverter = self._part("reverter", reader)
        level = reverter(protocol)
        return level if reverter.pads else fitted(level, covered, self.ranges[reader])

    def _part(self, role: str, m: str) -> Any:
        return self.get_submodule(f"{role}_{m}")

    def _heard(
        self, own: Mapping[str, Tensor], adapted: Mapping[str, Tensor], scene: SceneFeatures
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], SceneFeatures]:
        """Maps and protocol maps of the agents whose messages reached the ego, as they arrived."""
        if self.channel is None or self.training:
            return dict(own), dict(adapted), scene
        of_scene, slot = (places.tolist() for places in scene.places)
        seen: dict[str, int] = dict.fromkeys(own, 0)
        heard: dict[str, list[dict[str, Tensor]]] = {m: [] for m in own}
        keep = []
        for row, m in enumerate(scene.modality):
            place = seen[m]
            seen[m] += 1
            ego = scene.modality[scene.egos[of_scene[row]]]
            values = {NATIVE: own[m][place : place + 1], ADAPTED: adapted[m][place : place + 1]}
            if slot[row]:
                kind = NATIVE if m == ego else ADAPTED
                arrived = None
                if self.channel.takes_part(slot[row]):
                    arrived = self.channel.transmit(Message({kind: values[kind]}), slot[row], 0, of_scene[row])
                keep.append(arrived is not None)
                if arrived is None:
                    continue
                # What another type makes of it is worked out at the ego, which knows the type's adapter.
                values[kind] = arrived.tensors[kind]
                if kind == NATIVE and m != PROTOCOL:
                    values[ADAPTED] = self._part("adapter", m)(arrived.tensors[NATIVE])
            else:
                keep.append(True)
            heard[m].append(values)
        joined = {
            kind: {m: torch.cat([one[kind] for one in found]) for m, found in heard.items() if found}
            for kind in (NATIVE, ADAPTED)
        }
        return joined[NATIVE], joined[ADAPTED], scene.select(keep)


class TypewiseBuilder(AssemblyBuilder):
    """Builds a :class:`TypewiseDetector`; types in ``ignored_modality`` are left out."""

    def __call__(self, hypes: Mapping[str, Any], train_flag: bool = True, **args: Any) -> Detector:
        """The detector for ``model.args``."""
        kept = without_ignored(args)
        detector = build_detector(self.row, kept, hypes, train_flag)
        assert isinstance(detector, TypewiseDetector)
        detector.ranges = ranges(hypes, kept)
        if isinstance(detector, CollaborativeTypes):
            detector.protocol_output = bool(args.get("protocol_output", False))
        return detector


def without_ignored(args: Mapping[str, Any]) -> dict[str, Any]:
    """``model.args`` without the types in ``ignored_modality``."""
    ignored = set(args.get("ignored_modality") or ())
    return {key: value for key, value in args.items() if key not in ignored}


def ranges(hypes: Mapping[str, Any], args: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """The range of each type, which must be centred at the agent: x0, y0, z0, x1, y1, z1 in metres."""
    contexts = {m: Context(hypes, {**args, **args[m]}) for m in modalities(args)}
    for context in contexts.values():
        context.extent  # noqa: B018 (refuses what is not centred)
    return {m: context.lidar_range for m, context in contexts.items()}


def extent_of(limits: Sequence[float]) -> tuple[float, float]:
    """Metres along (y, x) of a range."""
    return limits[4] - limits[1], limits[3] - limits[0]


def fitted(level: Tensor, have: Sequence[float], want: Sequence[float]) -> Tensor:
    """Maps (N, C, H, W) of one range, padded with zeros or cropped so that they cover another."""
    (down, right), (height, width) = extent_of(have), level.shape[-2:]
    return fit_range(level, have, want, (height / down, width / right))
