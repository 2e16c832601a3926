"""The tests of a recipe: all agents, agents in order, or pairs of modalities; each is a row of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from opencood.config.loader import load_yaml
from opencood.evaluation.report import Report
from opencood.experiments.in_order import Entrance, entrances, run_in_order
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.recipe import Stage

SPLIT_KEYS = {"train": "root_dir", "validate": "validate_dir"}
NUMBERS = (1, 2, 3, 4)


def row_name(method: str, pair: tuple[str, ...] = ()) -> str:
    """What a row is called: ``late m1+m2`` is ego m1 with others m2, ``single m1`` an ego alone."""
    return f"{method} {'+'.join(pair)}" if pair else method


def tuning_file(folder: Path, label: str) -> Path:
    """Where the detections on the split are kept from which a row's threshold is chosen."""
    return folder / "tuning" / f"{label}.npz"


def run_tests(stage: Stage, options: InferenceOptions, folder: Path) -> Iterator[tuple[str, Report]]:
    """Run the tests of a stage one after the other; detections go to ``<folder>/<row>.npz``.

    With ``threshold_from`` every test also runs on that split, see :func:`tuning_file`.
    """
    in_order = _in_order(stage)
    if in_order:

        def keep(entrance: Entrance) -> Path:
            return folder / f"{_entrance_row(stage, entrance)}.npz"

        for entrance, report in run_in_order(options, *in_order, keep):
            yield _entrance_row(stage, entrance), report
        return
    for pair in stage.pairs or [()]:
        label = row_name(stage.method, pair)
        tuned = stage.spec.get("threshold_from")
        if tuned:
            run_inference(_on(options, pair, tuning_file(folder, label), _split(options, tuned)))
        yield label, run_inference(_on(options, pair, folder / f"{label}.npz"))


def rows_of(stage: Stage) -> list[str]:
    """The rows that :func:`run_tests` yields."""
    in_order = _in_order(stage)
    if in_order:
        return [_entrance_row(stage, entrance) for entrance in entrances(*in_order)]
    return [row_name(stage.method, pair) for pair in stage.pairs or [()]]


def tests_of(stage: Stage) -> int:
    """How often a stage goes through a split."""
    return len(stage.spec.get("in_order", [1])) * len(stage.pairs or [1]) * (2 if "threshold_from" in stage.spec else 1)


def _in_order(stage: Stage) -> tuple[tuple[int, ...], bool] | None:
    """The numbers of agents that enter in order, and whether with fewer beams; None where none enter so."""
    if "in_order" not in stage.spec and not stage.spec.get("lidar_degrade"):
        return None
    return tuple(stage.spec.get("in_order", NUMBERS)), bool(stage.spec.get("lidar_degrade"))


def _entrance_row(stage: Stage, entrance: Entrance) -> str:
    return f"{stage.method} {entrance.agents}{entrance.degraded}"


def _split(options: InferenceOptions, name: str) -> Any:
    """The folder of a split of the run's data."""
    return load_yaml(None, model_dir=options.model_dir)[SPLIT_KEYS[name]]


def _on(options: InferenceOptions, pair: tuple[str, ...], file: Path, split: Any = None) -> InferenceOptions:
    """The options of one test; an ego alone is the first of agents that are all like it."""
    if not pair and split is None:
        return replace(options, save_detections=file)
    agents = "ego" if len(pair) == 1 else options.agents
    edit = partial(_edit, pair=pair, split=split)
    return replace(options, agents=agents, save_detections=file, edit=edit, results=False)


def _edit(hypes: Mapping[str, Any], pair: tuple[str, ...], split: Any) -> dict[str, Any]:
    return ({} if split is None else {"validate_dir": split}) | (edit_of_pair(hypes, pair) if pair else {})


def edit_of_pair(hypes: Mapping[str, Any], pair: tuple[str, ...]) -> dict[str, Any]:
    """Keys that replace those of a configuration: the ego is of the first modality, all others of the last."""
    return {"heter": {**hypes["heter"], "pair": [pair[0], pair[-1]], "ego_modality": pair[0]}}
