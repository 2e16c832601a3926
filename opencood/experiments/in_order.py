"""Agents enter one after the other, in a fixed order of modalities (tools.md 3, ``inference_heter_in_order``)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of, quirk
from opencood.config.loader import Hypes
from opencood.config.tree import given
from opencood.errors import ConfigError
from opencood.evaluation.report import Report
from opencood.experiments.backend_egos import with_egos_of_backends
from opencood.experiments.fusion_methods import choose_method
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.result_rows import ResultRow, lines_of, write_csv
from opencood.experiments.results import labelled
from opencood.experiments.run_folder import open_run_folder

log = logging.getLogger(__name__)

RANGE_QUIRK = "inference_range_in_order"
COMM_RANGE = 180  # metres
EGO = "m1"
MODALITIES = ("m1", "m2", "m3", "m4")
BEAMS = {"m3": 32}
# With --lidar_degrade: four agents, twice, with fewer beams.
DEGRADED = ({"m1": 32, "m3": 16}, {"m1": 16, "m3": 16})
DEGRADED_AGENTS = 4
COLUMNS = ("agents",)


@dataclass(frozen=True)
class Entrance:
    """One evaluation: the first ``agents`` take part; LiDAR beams by modality when they are degraded."""

    agents: int
    beams: Mapping[str, int] | None = None

    @property
    def degraded(self) -> str:
        """The part of result and picture names that tells the beams."""
        return "" if self.beams is None else "".join(f"_{m}_{count}" for m, count in self.beams.items())

    @property
    def label(self) -> str:
        """Part of file names."""
        return f"use_cav{self.agents}{self.degraded}"

    def __str__(self) -> str:
        beams = "" if self.beams is None else ", beams " + ", ".join(f"{m} {n}" for m, n in self.beams.items())
        return f"{self.agents} agent{'s' * (self.agents > 1)}{beams}"


def parse_use_cav(text: str) -> tuple[int, ...]:
    """Read ``--use_cav``: ``[1,2,3]``, ``1,2,3`` or ``2``.

    Raises:
        ConfigError: anything else.
    """
    inner = text.strip().removeprefix("[").removesuffix("]")
    words = [word.strip() for word in inner.split(",")]
    if not all(re.fullmatch(r"[1-9]\d*", word) for word in words):
        raise ConfigError(f"--use_cav: expected numbers of agents such as [1,2,3,4], found '{text}'.")
    return tuple(dict.fromkeys(map(int, words)))


def entrances(use_cav: Sequence[int], degrade: bool) -> list[Entrance]:
    """What is evaluated; ``degrade`` replaces the numbers of agents by the two published settings."""
    if degrade:
        return [Entrance(DEGRADED_AGENTS, beams) for beams in DEGRADED]
    return [Entrance(agents) for agents in use_cav]


def run_in_order(
    options: InferenceOptions,
    use_cav: Sequence[int] = (1, 2, 3, 4),
    degrade: bool = False,
    keep: Callable[[Entrance], Path] | None = None,
) -> Iterator[tuple[Entrance, Report]]:
    """Evaluate one number of agents after the other; the ground truth is always that of all agents.

    One result file each, ``eval_<info>_use_cav<k>.yaml``; ``keep`` names a file for the detections of each.

    Raises:
        ConfigError: the configuration has no modalities, or fuses early.
        CheckpointError, DataError: see ``run_inference``.
    """
    if options.agents is not None:
        raise ConfigError("--agents: in-order inference takes the numbers of agents from --use_cav.")
    for entrance in entrances(use_cav, degrade):
        log.info("in order: %s", entrance)
        file = labelled(options.save_detections, entrance.label) if keep is None else keep(entrance)
        yield entrance, run_inference(replace(entering(options, entrance), save_detections=file))


def entering(options: InferenceOptions, entrance: Entrance) -> InferenceOptions:
    """The options under which the agents of an entrance take part, in the order of their modalities.

    Raises:
        ConfigError: the configuration has no modalities, or fuses early.
        CheckpointError: see ``run_inference``.
    """
    hypes, _ = open_run_folder(options.model_dir, options.parity, test_dir=options.test_dir)
    if "heter" not in hypes:
        raise ConfigError(f"{options.model_dir}: has no section heter, so there is no order of modalities.")
    method = choose_method(options.fusion_method, hypes)
    if method.family == "early":
        raise ConfigError("in-order inference knows intermediate and late fusion; use tools/inference.py for early.")
    one_by_one = method.family == "late" and not method.alone
    return replace(
        options,
        agents=entrance.agents if one_by_one else None,
        suffix=entrance.degraded if one_by_one else f"_{entrance.label}",
        edit=partial(_edited, entrance=entrance),
        range_quirk=RANGE_QUIRK,
    )


def _edited(hypes: Hypes, entrance: Entrance) -> Mapping[str, Any]:
    changed = hypes.replaced({**hypes, **in_order_keys(hypes, entrance)})
    return with_egos_of_backends(changed)


def write_table(results: Sequence[tuple[Entrance, Report]]) -> tuple[list[str], Path]:
    """All results as the lines of a table, and as a CSV file beside the result files.

    Returns:
        the lines; the file, ``eval_<info>_in_order.csv``.
    """
    rows = [ResultRow.of((str(entrance),), report) for entrance, report in results]
    first = Path(results[0][1].files[-1])
    path = first.with_name(f"{first.stem.partition('_use_cav')[0]}_in_order.csv")
    return lines_of(rows, COLUMNS), write_csv(path, rows, COLUMNS)


def in_order_keys(hypes: Mapping[str, Any], entrance: Entrance) -> dict[str, Any]:
    """What the tool changes in a configuration."""
    heter = dict(hypes["heter"])
    if quirk(hypes, "in_order_fixed_roster"):
        heter["mapping_dict"] = {name: name for name in MODALITIES}
    if quirk(hypes, "in_order_fixed_beams"):
        heter["lidar_channels_dict"] = _beams(hypes)
    if flavor_of(hypes) != "codealign" and EGO in heter["modality_setting"]:
        heter["ego_modality"] = EGO
    if entrance.beams is not None:
        heter["lidar_channels_dict"] = dict(entrance.beams)
    path = heter.get("assignment_path")
    if path not in (None, "None"):
        heter["assignment_path"] = str(in_order_file(Path(str(path))))
    changes: dict[str, Any] = {"heter": heter, "comm_range": COMM_RANGE}
    sample = str(hypes["fusion"]["core_method"])
    if sample.startswith("intermediate"):
        name = sample if sample.endswith("infer") else f"{sample}infer"
        changes |= {"fusion": {**hypes["fusion"], "core_method": name}, "use_cav": entrance.agents}
    return changes


def _beams(hypes: Mapping[str, Any]) -> dict[str, Any]:
    """m3 is read with 32 beams; CodeAlign's, which may be trained with 64, with what its file says, if it says so."""
    own = given(hypes["heter"], "lidar_channels_dict") or {}
    return BEAMS | {m: own[m] for m in BEAMS if m in own and flavor_of(hypes) == "codealign"}


def in_order_file(assignment: Path) -> Path:
    """``opv2v_4modality.json`` -> ``opv2v_4modality_in_order.json``."""
    if assignment.stem.endswith("_in_order"):
        return assignment
    return assignment.with_name(f"{assignment.stem}_in_order{assignment.suffix}")
