"""The same detector under growing pose noise (tools.md section 3, e2e.md)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from opencood.config.flavor import flavor_of, parity_of
from opencood.evaluation.files import write_yaml
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT, Report
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.results import channel_note, labelled, perturb_note
from opencood.experiments.run_folder import open_run_folder

log = logging.getLogger(__name__)

# Standard deviation of x, y in metres and of yaw in degrees alike.
LEVELS = (0.0, 0.2, 0.4, 0.6)
GENCOMM_LEVELS = (*LEVELS, 0.8)
_SUMMARY_KEYS = {0.3: "ap30", 0.5: "ap50", 0.7: "ap70"}


@dataclass(frozen=True)
class NoiseSweep:
    """Reports by level of one kind of noise, and the summary files."""

    laplace: bool
    reports: Mapping[float, Report]
    files: tuple[str, ...]


def run_noise_sweep(options: InferenceOptions, also_laplace: bool = False) -> list[NoiseSweep]:
    """Evaluate every level, Gaussian and on request Laplace; the summary is rewritten after each level.

    Under ``parity: fixed`` the noise of an agent depends only on (seed, level, frame, agent), so detectors are
    comparable and runs repeatable whatever the number of workers. Ground truth stays clean.
    """
    hypes, _ = open_run_folder(options.model_dir, options.parity)
    levels = GENCOMM_LEVELS if flavor_of(hypes) in ("gencomm", "stamp") else LEVELS
    return [_sweep(options, levels, laplace, hypes) for laplace in ((False, True) if also_laplace else (False,))]


def _sweep(options: InferenceOptions, levels: tuple[float, ...], laplace: bool, hypes: Mapping[str, Any]) -> NoiseSweep:
    reports: dict[float, Report] = {}
    files: list[str] = []
    for level in levels:
        log.info("pose noise: %s, %g m and %g degrees", "Laplace" if laplace else "Gauss", level, level)
        noise = gaussian(level) | {"laplace": laplace}
        pictures = 0 if laplace else options.save_vis_interval
        info = noise_info(level, options, laplace)
        level_options = replace(
            options,
            save_detections=labelled(options.save_detections, info),
            seed=level_seed(options.seed, level) if parity_of(hypes) == "fixed" else options.seed,
            noise=noise,
            save_vis_interval=pictures,
            results=False,
            info=info,
        )
        reports[level] = run_inference(level_options)
        kind = ("_laplace" if laplace else "") + channel_note(options.channel) + perturb_note(options.perturb)
        files = write_summary(reports, Path(options.model_dir), kind, flavor_of(hypes))
    return NoiseSweep(laplace, reports, tuple(files))


def gaussian(std: float) -> dict[str, Any]:
    """Pose noise of a standard deviation in metres and degrees alike, as section ``noise_setting.args``."""
    return {"pos_std": std, "rot_std": std, "pos_mean": 0, "rot_mean": 0, "laplace": False}


def level_seed(seed: int, level: float) -> int:
    """A seed of its own for every level, so that a draw is keyed by seed, level, frame and agent.

    Level 0 keeps the seed: without noise the run is the plain one.
    """
    return int(np.random.SeedSequence([seed, round(level * 1000)]).generate_state(1)[0] >> 1) if level else seed


def noise_info(level: float, options: InferenceOptions, laplace: bool) -> str:
    """``<pos_std>_<rot_std>_<pos_mean>_<rot_mean>_<method><_laplace><note>``."""
    kind = "_laplace" if laplace else ""
    shown = f"{level:g}"
    return f"{shown}_{shown}_0_0_{options.fusion_method or 'intermediate'}{kind}{options.note}"


def write_summary(reports: Mapping[float, Report], folder: Path, kind: str, flavor: str) -> list[str]:
    """``AP030507<kind>.yaml``: lists over the levels so far. GenComm keeps each variant in a file of its own.

    ``kind`` tells sweeps of one detector apart: ``_laplace`` as published, and what disturbs or corrects besides.
    """
    if flavor in ("gencomm", "stamp"):
        targets = {f"AP030507{kind}_w_gs.yaml": GLOBAL_SORT, f"AP030507{kind}_wo_gs.yaml": FRAME_ORDER}
    else:
        targets = {f"AP030507{kind}.yaml": next(iter(reports.values())).variant}
    return [str(write_yaml(folder / name, _summary(reports, variant))) for name, variant in targets.items()]


def _summary(reports: Mapping[float, Report], variant: str) -> dict[str, Any]:
    lists = {key: [report.ap(t, variant) for report in reports.values()] for t, key in _SUMMARY_KEYS.items()}
    last = list(reports.values())[-1]
    return lists | {"levels": list(reports), "ap_variant": variant, "protocol": dict(last.protocol)}
