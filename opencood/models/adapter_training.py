"""STAMP's training of adapters: one type's features against the protocol's, agent by agent (spec gencomm.md 1.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from opencood.errors import ConfigError, DataError
from opencood.models.assembly import Assembly
from opencood.models.builder import AssemblyBuilder, build_detector
from opencood.models.detector import Detector
from opencood.models.parts import modalities
from opencood.models.scene import SceneFeatures
from opencood.models.typewise import PROTOCOL, extent_of, fitted, ranges, without_ignored

STAGE = "train_adapter"
# Stages in which detections are judged too, of types that have a backend.
OUTPUT_STAGES = ("train_adapter_w_output", "train_adapter_output_only")
OTHER_STAGES = (*OUTPUT_STAGES, "collab_train", "infer")


class AdapterTraining(Detector):
    """Two encoders see the same agents' data, adapter A and reverter R go between their features.

    Outputs, (N, C, H, W) each: ``FM`` and ``FP``, the features of type and protocol; ``FM2P`` = A(FM), ``FP2M`` = R(FP)
    and ``FM2P2M`` = R(A(FM)), through which no gradient reaches the adapter. Where type and protocol have a backend,
    also their outputs from what the other one saw: those of the type, from FP2M, under its name, and those of the
    protocol, from FM2P, under ``m0``.
    """

    # x0, y0, z0, x1, y1, z1 in metres of each type's map, where that matters
    ranges: Mapping[str, Sequence[float]] = {}
    # the range that type and protocol see; None compares whole maps
    visible: Sequence[float] | None = None

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """From a batch with ``inputs_m0`` and the type's inputs of the same N agents.

        Raises:
            DataError: the batch lacks one of the two.
        """
        (own,) = (m for m in self.modalities if m != PROTOCOL)
        lost = [f"inputs_{m}" for m in (own, PROTOCOL) if f"inputs_{m}" not in batch]
        if lost:
            raise DataError(
                f"the batch has no {' and no '.join(lost)}: adapters are trained on samples of "
                "fusion.core_method intermediateheteradapter, which prepare every agent twice."
            )
        everybody = int(sum(batch["record_len"]))
        names = batch.get("agent_modality_list") or [own] * everybody
        rows = [row for row, name in enumerate(names) if name == own]
        of_type = self._see(own, batch[f"inputs_{own}"], len(rows))[0][0]
        # agents that are of the protocol's type themselves teach nothing
        of_protocol = self._see(PROTOCOL, batch[f"inputs_{PROTOCOL}"], everybody)[0][0][rows]
        adapter, reverter = (self.get_submodule(f"{stem}_{own}") for stem in ("adapter", "reverter"))
        adapted = adapter(of_type)
        features = {
            "FM": of_type,
            "FP2M": reverter(of_protocol),
            "FM2P2M": reverter(adapted.detach()),
            "FP": of_protocol,
            "FM2P": adapted,
        }
        outputs = self._detections(batch, rows, features, own) if self._backends else {}
        return {**(features if self.visible is None else self._cropped(features, own)), **outputs}

    def _detections(
        self, batch: Mapping[str, Any], rows: Sequence[int], features: Mapping[str, Tensor], own: str
    ) -> dict[str, Any]:
        """What both backends find in the whole maps that come from the other side."""
        everybody = SceneFeatures((), tuple(int(n) for n in batch["record_len"]), batch["pairwise_t_matrix"])
        scene = everybody.select([row in set(rows) for row in range(everybody.agents)])
        covered, found = self._covered(own), {}
        for m, name in ((own, "FP2M"), (PROTOCOL, "FM2P")):
            level = fitted(features[name], covered[name], self.ranges[m])
            extent = extent_of(self.ranges[m])
            of_type = replace(scene, maps=(level,), extent=extent, modality=(m,) * len(level))
            fused = self._backends[m].fuse(of_type)
            found[m] = {**fused.aux, **self._backends[m].detect(fused)}
        return found

    def _covered(self, own: str) -> dict[str, Sequence[float]]:
        """The range that each feature covers: an adapter that does not pad leaves it as it was."""
        of_type, of_protocol = self.ranges[own], self.ranges[PROTOCOL]
        pads: dict[str, Any] = {role: self.get_submodule(f"{role}_{own}").pads for role in ("adapter", "reverter")}
        adapted = of_protocol if pads["adapter"] else of_type
        return {
            "FM": of_type,
            "FP": of_protocol,
            "FM2P": adapted,
            "FP2M": of_type if pads["reverter"] else of_protocol,
            "FM2P2M": of_type if pads["reverter"] else adapted,
        }

    def _cropped(self, features: Mapping[str, Tensor], own: str) -> dict[str, Any]:
        assert self.visible is not None
        covered = self._covered(own)
        return {name: fitted(level, covered[name], self.visible) for name, level in features.items()}


class AdapterTrainingBuilder(AssemblyBuilder):
    """Builds :class:`AdapterTraining`; types in ``ignored_modality`` are left out."""

    def __call__(self, hypes: Mapping[str, Any], train_flag: bool = True, **args: Any) -> Detector:
        """The detector for ``model.args``.

        Raises:
            ConfigError: another stage, or not exactly one type beside the protocol.
        """
        with_outputs = any(part.slot == "head" for part in self.row.parts)
        _check_stage(args, (STAGE, *OUTPUT_STAGES) if with_outputs else (STAGE,))
        kept = without_ignored(args)
        _check_types(self.row, kept)
        detector = build_detector(self.row, kept, hypes)
        assert isinstance(detector, AdapterTraining)
        if with_outputs or args.get("crop_to_visible"):
            detector.ranges = ranges(hypes, kept)
        if args.get("crop_to_visible"):
            detector.visible = _visible(kept, detector.ranges)
        return detector


def _check_stage(args: Mapping[str, Any], working: Sequence[str]) -> None:
    stage = args.get("stage", STAGE)
    if stage in working:
        return
    known = "is not published in a working state" if stage in OTHER_STAGES else "is unknown"
    raise ConfigError(f"model.args.stage: '{stage}' {known}; adapters are trained with stage {' or '.join(working)}.")


def _check_types(row: Assembly, args: Mapping[str, Any]) -> None:
    types = modalities(args)
    if PROTOCOL not in types or len(types) != 2:
        raise ConfigError(
            f"model.args: {row.name} trains the adapter of one type against the protocol, so it needs {PROTOCOL} and "
            f"one other type, not {', '.join(types) or 'none'}. Name the others in ignored_modality."
        )
    pairs_of_sensors = any("{m}_lidar" in part.name for part in row.parts)
    for m in types:
        if isinstance(args[m].get("core_method"), Mapping) and not pairs_of_sensors:
            raise ConfigError(f"model.args.{m}.core_method: a type has one encoder; name one, such as point_pillar.")


def _visible(args: Mapping[str, Any], whole: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """What both type and protocol see of their ranges."""
    seen = [args[m].get("visible_range") or limits for m, limits in whole.items()]
    low = [max(sides) for sides in zip(*(one[:3] for one in seen), strict=True)]
    high = [min(sides) for sides in zip(*(one[3:] for one in seen), strict=True)]
    return [*low, *high]
