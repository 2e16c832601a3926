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
from opencood.models.links.adapter_grid import fit_range
from opencood.models.parts import modalities
from opencood.models.scene import SceneFeatures
from opencood.models.typewise import PROTOCOL, extents, without_ignored

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

    # (ranges of type and protocol, the range both see); None compares whole maps
    visible: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    # metres along (y, x) of each type's map
    extents: Mapping[str, tuple[float, float]] = {}

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
        return {**(features if self.visible is None else self._cropped(features)), **outputs}

    def _detections(
        self, batch: Mapping[str, Any], rows: Sequence[int], features: Mapping[str, Tensor], own: str
    ) -> dict[str, Any]:
        """What both backends find in the whole maps that come from the other side."""
        everybody = SceneFeatures((), tuple(int(n) for n in batch["record_len"]), batch["pairwise_t_matrix"])
        scene = everybody.select([row in set(rows) for row in range(everybody.agents)])
        found = {}
        for m, level in ((own, features["FP2M"]), (PROTOCOL, features["FM2P"])):
            of_type = replace(scene, maps=(level,), extent=self.extents[m], modality=(m,) * len(level))
            fused = self._backends[m].fuse(of_type)
            found[m] = {**fused.aux, **self._backends[m].detect(fused)}
        return found

    def _cropped(self, features: Mapping[str, Tensor]) -> dict[str, Any]:
        assert self.visible is not None
        of_type, of_protocol, both = self.visible
        ranges = dict.fromkeys(("FP", "FM2P"), of_protocol)
        return {name: _crop(level, ranges.get(name, of_type), both) for name, level in features.items()}


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
        detector.extents = extents(hypes, kept) if with_outputs else {}
        if args.get("crop_to_visible"):
            (own,) = (m for m in modalities(kept) if m != PROTOCOL)
            detector.visible = _visible(kept, own)
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


def _visible(args: Mapping[str, Any], own: str) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Ranges of the type's and the protocol's maps, and what both see of it."""
    ranges = [args[m].get("lidar_range", args.get("lidar_range")) for m in (own, PROTOCOL)]
    seen = [args[m].get("visible_range") or whole for m, whole in zip((own, PROTOCOL), ranges, strict=True)]
    low = [max(sides) for sides in zip(*(one[:3] for one in seen), strict=True)]
    high = [min(sides) for sides in zip(*(one[3:] for one in seen), strict=True)]
    return ranges[0], ranges[1], [*low, *high]


def _crop(level: Tensor, have: Sequence[float], want: Sequence[float]) -> Tensor:
    density = level.shape[-2] / (have[4] - have[1]), level.shape[-1] / (have[3] - have[0])
    return fit_range(level, have, want, density)
