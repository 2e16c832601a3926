"""The same detector under growing delay of what the others send (tools.md section 3, gencomm.md 6.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of, parity_of
from opencood.evaluation.report import Report
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.noise import write_summary
from opencood.experiments.results import channel_note, labelled, perturb_note
from opencood.experiments.run_folder import open_run_folder

log = logging.getLogger(__name__)

# Longest delay in milliseconds; each message is one frame (100 ms) late up to that.
LEVELS = (100, 200, 300, 400, 500)


@dataclass(frozen=True)
class DelaySweep:
    """Reports by longest delay in milliseconds, and the summary files."""

    reports: Mapping[float, Report]
    files: tuple[str, ...]


def run_delay_sweep(options: InferenceOptions) -> DelaySweep:
    """Evaluate every level; the summary is rewritten after each.

    The delay is the published one (``noise_setting.async_args``, drawn for every message); whether sensor data are as
    old as the poses follows parity. The summary has the published name under ``parity: published``, that of the noise
    tool; otherwise a name of its own.

    Raises:
        ConfigError, DataError: the data set knows no delay, or see ``run_inference``.
    """
    hypes, _ = open_run_folder(options.model_dir, options.parity)
    kind = "" if parity_of(hypes) == "published" else "_delay"
    note = options.note + channel_note(options.channel) + perturb_note(options.perturb)
    reports: dict[float, Report] = {}
    files: list[str] = []
    for level in LEVELS:
        log.info("delay: up to %d ms", level)
        info = f"delay_{level}_{options.fusion_method or 'intermediate'}{note}"
        changes = replace(
            options,
            edit=partial(delay_keys, milliseconds=level),
            info=info,
            results=False,
            save_detections=labelled(options.save_detections, info),
        )
        reports[level] = run_inference(changes)
        files = write_summary(reports, Path(options.model_dir), kind + note, flavor_of(hypes))
    return DelaySweep(reports, tuple(files))


def delay_keys(hypes: Mapping[str, Any], milliseconds: int) -> dict[str, Any]:
    """What the tool changes in a configuration."""
    return {
        "noise_setting": {
            "add_noise": True,
            "add_pose_noise": False,
            "add_async_noise": True,
            "async_args": {
                "async_mode": "sim",
                "async_method": "random",
                "async_overhead": milliseconds,
                "backbone_delay": 0,
                "data_size": 0,
                "transmission_speed": 0,
            },
        }
    }
