"""Compute a report again from stored detections, without data or model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opencood.errors import ConfigError
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT, THRESHOLDS, Report, evaluate


def evaluate_file(path: Path, thresholds: Sequence[float] = THRESHOLDS, out: Path | None = None) -> Report:
    """Evaluate a file of ``inference.py --save_detections``; optionally write the result YAML.

    Raises:
        DataError: no such file, or not a detection file.
        ConfigError: a threshold is no IoU.
    """
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise ConfigError(f"--iou: {threshold:g} is no IoU threshold; give values in (0, 1].")
    detections = DetectionSet.load(path)
    sorts = detections.protocol.get("quirks", {}).get("ap_global_sort", True)
    report = evaluate(detections, thresholds, GLOBAL_SORT if sorts else FRAME_ORDER)
    if out is not None:
        write_yaml(out, report.content())
    return report
