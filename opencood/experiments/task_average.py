"""Every pair of modalities by itself, and their plain mean (CodeAlign, ``inference_heter_task_average``).

Source: spec codealign.md 7, tools.md 3.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

from opencood.config.flavor import quirk
from opencood.config.loader import Hypes, reparse
from opencood.config.overrides import update_dict
from opencood.config.tree import given
from opencood.data.modality import ego_modalities
from opencood.errors import ConfigError
from opencood.evaluation.files import write_text
from opencood.evaluation.report import THRESHOLDS, Report
from opencood.experiments.backend_egos import backends_of, with_egos_of_backends
from opencood.experiments.build import build_dataset
from opencood.experiments.fusion_methods import choose_method
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.noise import gaussian
from opencood.experiments.result_rows import ResultRow, mean_row, write_csv
from opencood.experiments.run_folder import open_run_folder

log = logging.getLogger(__name__)

Pair = tuple[str, str]
COLUMNS = ("ego", "others")
AVERAGE = "average"
JSON_FILE, CSV_FILE = "eval_average.json", "eval_average.csv"
DIGITS = 6


@dataclass(frozen=True)
class PairOptions:
    """What the pair average adds to an inference.

    Attributes:
        score_threshold: replaces every ``score_threshold``; None: the configuration's, or as published 0.2.
        exchanged: run every pair with the roles exchanged too, so that agents of both kinds are ego.
        noise: standard deviation of the pose noise, metres and degrees alike; 0: what the configuration says.
    """

    score_threshold: float | None = None
    exchanged: bool = False
    noise: float = 0.0

    def info(self, pair: Pair) -> str:
        """The part of result and picture names that tells a pair."""
        return f"{'_all' * self.exchanged}_noise{self.noise}_{pair[0]}_{pair[1]}"


@dataclass(frozen=True)
class Average:
    """All pairs with their reports, and the files with their mean."""

    reports: Mapping[Pair, Report]
    files: tuple[Path, ...]

    @property
    def rows(self) -> list[ResultRow]:
        """The table: pair after pair, the mean last."""
        rows = [ResultRow.of(pair, report) for pair, report in self.reports.items()]
        return [*rows, mean_row(rows, (AVERAGE, ""))]


def modality_pairs(groups: Sequence[Sequence[str]], egos: Sequence[str], backends: Sequence[str] = ()) -> list[Pair]:
    """Which (modality of the ego, modality of all others) are evaluated.

    With backends: each with every ego modality. One group: its ordered pairs, or its only member with itself. Several
    groups: members that two groups do not share, across, first in one direction and then in the other. Without a
    group the ego modalities are one.
    """
    if backends:
        return list(product(backends, egos))
    groups = [tuple(group) for group in groups] or [tuple(egos)]
    if len(groups) == 1:
        (group,) = groups
        return list(permutations(group, 2)) if len(group) > 1 else [(group[0], group[0])]
    across = [
        (one, other)
        for k, first in enumerate(groups)
        for second in groups[k + 1 :]
        for one, other in product(_without(first, second), _without(second, first))
    ]
    return list(dict.fromkeys([*across, *((other, one) for one, other in across)]))


def pairs_of(hypes: Mapping[str, Any], exchanged: bool = False) -> list[Pair]:
    """The pairs of a configuration; ``exchanged`` adds those with the roles exchanged.

    Raises:
        ConfigError: it has no modalities, or no pair.
    """
    heter = given(hypes, "heter")
    if not heter:
        raise ConfigError("heter: the configuration has no such section, so there are no pairs of modalities.")
    groups = given(heter, "heter_group") or ()
    found = modality_pairs(groups, ego_modalities(heter["ego_modality"]), backends_of(hypes))
    if exchanged:
        found = list(dict.fromkeys([*found, *((other, one) for one, other in found)]))
    if not found:
        raise ConfigError(f"heter.heter_group: {groups} leaves no pair of modalities to evaluate.")
    return found


def run_task_average(options: InferenceOptions, settings: PairOptions | None = None) -> Iterator[tuple[Pair, Report]]:
    """Evaluate the test split once for each pair: the first agent of every scene has one modality, all others another.

    One result file each, ``eval_<info>_noise<s>_<ego>_<others>.yaml``. What is drawn, read and compared is that of the
    plain data set: agents within ``comm_range``, and the ground truth that they give.

    Raises:
        ConfigError: the configuration has no modalities, or fuses early.
        CheckpointError, DataError: see ``run_inference``.
    """
    settings = settings or PairOptions()
    for pair, own in _each(options, settings):
        log.info("ego %s, all others %s", *pair)
        yield pair, run_inference(own)


def read_pairs(options: InferenceOptions, settings: PairOptions) -> Iterator[tuple[Pair, int]]:
    """Read the samples of every pair without a detector; gives how many there are of each.

    Raises:
        ConfigError, DataError: what is wrong with them.
    """
    for pair, own in _each(options, settings):
        hypes, _ = open_run_folder(own.model_dir, own.parity, noise=own.noise, edit=own.edit)
        dataset = build_dataset(hypes, train=False)
        count = len(dataset) if own.limit is None else min(own.limit, len(dataset))
        yield pair, sum(dataset[index] is not None for index in range(count))


def _each(options: InferenceOptions, settings: PairOptions) -> Iterator[tuple[Pair, InferenceOptions]]:
    hypes, _ = open_run_folder(options.model_dir, options.parity)
    pairs = pairs_of(hypes, settings.exchanged)
    if choose_method(options.fusion_method, hypes).family == "early":
        raise ConfigError("pairs of modalities know intermediate and late fusion; use tools/inference.py for early.")
    noise = gaussian(settings.noise) if settings.noise else options.noise
    for pair in pairs:
        edit = partial(with_pair, pair=pair, score_threshold=settings.score_threshold)
        yield pair, replace(options, edit=edit, suffix=settings.info(pair), noise=noise)


def with_pair(hypes: Hypes, pair: Pair, score_threshold: float | None = None) -> Hypes:
    """The configuration for one pair."""
    threshold = score_threshold or quirk(hypes, "pairs_fixed_score_threshold")
    changed = hypes.replaced(update_dict(hypes, {"score_threshold": threshold}))
    changed = with_egos_of_backends(changed)
    fusion = {**changed["fusion"], "core_method": str(changed["fusion"]["core_method"]).removesuffix("infer")}
    heter = {**changed["heter"], "pair": list(pair)}
    return reparse(changed.replaced({**changed, "fusion": fusion, "heter": heter}))


def write_average(reports: Mapping[Pair, Report], folder: Path) -> Average:
    """Write the plain mean over the pairs (JSON, as published) and all pairs with it (CSV)."""
    average = Average(reports, ())
    rows = average.rows
    content = average_of([[report.ap(threshold) for threshold in THRESHOLDS] for report in reports.values()])
    files = (
        write_text(folder / JSON_FILE, json.dumps(content, indent=4) + "\n"),
        write_csv(folder / CSV_FILE, rows, COLUMNS),
    )
    return replace(average, files=files)


def average_of(marks: Sequence[Sequence[float]]) -> dict[str, float]:
    """The content of the published file: mean AP at the thresholds 0.3, 0.5, 0.7 over pairs, 6 decimals."""
    means = [sum(column) / len(column) for column in zip(*marks, strict=True)]
    return {
        f"Average Precision at IOU {threshold}": round(mean, DIGITS)
        for threshold, mean in zip(THRESHOLDS, means, strict=True)
    }


def _without(group: Sequence[str], other: Sequence[str]) -> list[str]:
    return [name for name in group if name not in other]
