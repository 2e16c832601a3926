"""Compute a report again from stored detections, without data or model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from opencood.config.overrides import parse_range
from opencood.errors import ConfigError, nearest
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT, THRESHOLDS, VARIANTS, Report, evaluate
from opencood.evaluation.subsets import DISTANCE_BANDS, Bands, in_rectangle, only
from opencood.experiments.protocol import file_digest

PUBLISHED_BANDS = "published"


@dataclass(frozen=True)
class EvaluationOptions:
    """Arguments of ``tools/evaluate.py``.

    Attributes:
        thresholds: IoU thresholds.
        variant: the AP variant that is reported first; None takes that of the run.
        range_xy: text ``X,Y``: only what lies within, in metres; None takes all that is stored.
        bands: text of distances from the ego, see :func:`parse_bands`; None for none.
        classes: only these; None for all.
        out: also write the result file there.
    """

    thresholds: Sequence[float] = THRESHOLDS
    variant: str | None = None
    range_xy: str | None = None
    bands: str | None = None
    classes: Sequence[str] | None = None
    out: Path | None = None


def evaluate_file(path: Path, options: EvaluationOptions | None = None) -> Report:
    """Evaluate a file of ``--save_detections``; optionally write the result YAML.

    Raises:
        DataError: no such file, or not a detection file.
        ConfigError: a threshold is no IoU, or a variant, a range, a band or a class is wrong.
    """
    options = options or EvaluationOptions()
    for threshold in options.thresholds:
        if not 0 < threshold <= 1:
            raise ConfigError(f"--iou: {threshold:g} is no IoU threshold; give values in (0, 1].")
    if options.variant not in (None, *VARIANTS):
        raise ConfigError(f"--variant: '{options.variant}' is none of {', '.join(VARIANTS)}.")
    detections = _part(DetectionSet.load(path), options)
    bands = parse_bands(options.bands)
    stored: dict[str, Any] = {"file": str(path), "sha256": file_digest(path)}
    detections = replace(detections, protocol=detections.protocol | {"detections": stored})
    report = evaluate(detections, options.thresholds, options.variant or reported(detections.protocol), bands=bands)
    if options.out is not None:
        write_yaml(options.out, report.content())
    return report


def reported(protocol: Mapping[str, Any]) -> str:
    """The AP variant that the run behind some detections reports."""
    return GLOBAL_SORT if protocol.get("quirks", {}).get("ap_global_sort", True) else FRAME_ORDER


def parse_bands(text: str | None) -> Bands | None:
    """Read ``--bands``: ``0-30,30-50`` in metres, or ``published`` for those of the V2X-Real figures.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None
    if text == PUBLISHED_BANDS:
        return DISTANCE_BANDS
    bands: dict[str, tuple[float, float] | None] = {}
    for word in text.split(","):
        try:
            near, far = (float(number) for number in word.split("-"))
        except ValueError:
            near = far = math.nan
        if not 0 <= near < far < math.inf:
            raise ConfigError(
                f"--bands: expected distances such as 0-30,30-50 (metres) or {PUBLISHED_BANDS}, found '{text}'."
            )
        bands[f"{near:g}-{far:g} m"] = (near, far)
    return bands


def _part(detections: DetectionSet, options: EvaluationOptions) -> DetectionSet:
    """What the options leave of the detections; the protocol says what was chosen."""
    protocol = dict(detections.protocol)
    if options.range_xy is not None:
        x, y = parse_range(options.range_xy)
        detections = only(detections, partial(in_rectangle, x=x, y=y))
        protocol["evaluated_range"] = [x, y]
    if options.classes is not None:
        names = detections.class_names
        for name in options.classes:
            if name not in names.values():
                known = ", ".join(names.values()) or "one class only"
                raise ConfigError(f"--classes: unknown '{name}'.{nearest(name, names.values())} The file has {known}.")
        wanted = [label for label, name in names.items() if name in options.classes]
        detections = detections.of_classes(wanted)
        protocol["evaluated_classes"] = list(options.classes)
    return replace(detections, protocol=protocol)
