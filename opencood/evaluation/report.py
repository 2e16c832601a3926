"""The numbers of one evaluation, with everything needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from opencood.evaluation.average_precision import APResult, average_precision
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.matching import FrameMatch, match_frame
from opencood.evaluation.subsets import Bands, in_band, mean_over_classes, only

THRESHOLDS = (0.3, 0.5, 0.7)

# Both published ways to order detections before precision and recall are accumulated (evaluation.md, section 7).
GLOBAL_SORT = "global_sort"
FRAME_ORDER = "frame_order"
VARIANTS = (GLOBAL_SORT, FRAME_ORDER)

# The keys of published result files: note the missing underscore of the first.
_AP_KEYS = {0.3: "ap30", 0.5: "ap_50", 0.7: "ap_70"}
_CURVE_KEYS = {0.5: ("mpre_50", "mrec_50"), 0.7: ("mpre_70", "mrec_70")}

Results = Mapping[str, Mapping[float, APResult]]  # variant -> IoU threshold -> average precision


@dataclass(frozen=True)
class Figures:
    """Average precision of all, or of what lies in a band of distances, as in :class:`Report`."""

    results: Results
    by_class: Mapping[str, Results] = field(default_factory=dict)

    def areas(self) -> dict[str, Any]:
        """Areas alone, by variant and threshold, and by class where there are several."""
        by_class = {name: _areas(results) for name, results in self.by_class.items()}
        return _areas(self.results) | ({"by_class": by_class} if by_class else {})


@dataclass(frozen=True)
class Report:
    """Average precision in both variants and the circumstances.

    Attributes:
        results: variant -> IoU threshold -> average precision with its curve.
        protocol: all that decides the numbers (configuration, checkpoint, range, thresholds, data, code...).
        variant: the one that the flavor publishes, and that ``ap`` returns when not told otherwise.
        megabits_per_frame: mean size of the messages, None where nothing was metered.
        frames_per_second: forward pass, decoding and NMS; None when detections were loaded from a file.
        notes: what the reader must know (range replaced, no ground truth, ...).
        by_class: class -> the same as ``results``, where there are several classes; ``results`` then are plain means
            over the classes that have ground truth, without curves.
        by_range: band of distances from the ego -> its figures, where bands were asked for.
    """

    results: Results
    protocol: Mapping[str, Any]
    frames: int
    ground_truths: int
    detections: int
    variant: str = GLOBAL_SORT
    megabits_per_frame: float | None = None
    frames_per_second: float | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), compare=False)
    by_class: Mapping[str, Results] = field(default_factory=dict)
    by_range: Mapping[str, Figures] = field(default_factory=dict)

    def ap(self, threshold: float, variant: str | None = None) -> float:
        """Average precision at an IoU threshold; NaN when the run had no ground truth."""
        return float(self.results[variant or self.variant][threshold].ap)

    def published(self, variant: str | None = None) -> dict[str, Any]:
        """The keys of a published result file (evaluation.md, section 8)."""
        results = self.results[variant or self.variant]
        content: dict[str, Any] = {key: float(results[t].ap) for t, key in _AP_KEYS.items() if t in results}
        for threshold, (precision_key, recall_key) in _CURVE_KEYS.items():
            if threshold in results:
                content[precision_key] = [float(value) for value in results[threshold].precision]
                content[recall_key] = [float(value) for value in results[threshold].recall]
        return content

    def published_classes(self, variant: str | None = None) -> dict[str, Any]:
        """The content of a published result file of several classes: class -> IoU threshold -> ap, mrec, mpre."""

        def curve(result: APResult) -> dict[str, Any]:
            lists = {"mrec": result.recall, "mpre": result.precision}
            return {"ap": float(result.ap)} | {key: [float(value) for value in lists[key]] for key in lists}

        chosen = variant or self.variant
        return {
            name: {float(threshold): curve(result) for threshold, result in results[chosen].items()}
            for name, results in self.by_class.items()
        }

    def content(self, variant: str | None = None) -> dict[str, Any]:
        """The whole result file: the published keys, then both variants, circumstances and protocol."""
        chosen = variant or self.variant
        return self.published(chosen) | {
            "ap_variant": chosen,
            "ap_by_variant": _areas(self.results),
            **_unless_empty("ap_by_class", {name: _areas(results) for name, results in self.by_class.items()}),
            **_unless_empty("ap_by_range", {name: figures.areas() for name, figures in self.by_range.items()}),
            "frames": self.frames,
            "ground_truths": self.ground_truths,
            "detections": self.detections,
            "megabits_per_frame": self.megabits_per_frame,
            "frames_per_second": self.frames_per_second,
            "notes": list(self.notes),
            "protocol": dict(self.protocol),
        }

    def lines(self) -> list[str]:
        """What a command line prints at the end."""
        text = [f"{self.frames} frames, {self.ground_truths} ground truths, {self.detections} detections"]
        for name, by_threshold in self.results.items():
            marks = "   (reported)" if name == self.variant else ""
            text.append(f"{name:<12} {_marks(by_threshold)}{marks}")
        text += [f"  {name:<10} {_marks(results[self.variant])}" for name, results in self.by_class.items()]
        text += [f"  {name:<10} {_marks(figures.results[self.variant])}" for name, figures in self.by_range.items()]
        if self.megabits_per_frame is not None:
            text.append(f"communication {self.megabits_per_frame:.4g} megabits/frame")
        if self.frames_per_second is not None:
            text.append(f"speed {self.frames_per_second:.1f} frames/s (forward, decoding, NMS)")
        return text + [f"note: {note}" for note in self.notes]


def evaluate(
    detections: DetectionSet,
    thresholds: Sequence[float] = THRESHOLDS,
    variant: str = GLOBAL_SORT,
    frames_per_second: float | None = None,
    notes: Sequence[str] = (),
    bands: Bands | None = None,
) -> Report:
    """Compute a report from stored detections; a pure function, so evaluating twice gives the same numbers.

    Args:
        bands: distances from the ego, in metres, of which each is also evaluated by itself.
    """
    whole = _figures(detections, thresholds)
    return Report(
        results=whole.results,
        by_class=whole.by_class,
        by_range={
            name: _figures(only(detections, partial(in_band, band=band)), thresholds)
            for name, band in (bands or {}).items()
        },
        protocol=detections.protocol
        | {"iou_thresholds": [float(t) for t in thresholds]}
        | _unless_empty("ranges", {name: None if band is None else list(band) for name, band in (bands or {}).items()}),
        frames=len(detections),
        ground_truths=detections.ground_truth_count,
        detections=detections.detection_count,
        variant=variant,
        megabits_per_frame=detections.megabits_per_frame(),
        frames_per_second=frames_per_second,
        notes=tuple(notes) + tuple(_warnings(detections)),
    )


def _figures(detections: DetectionSet, thresholds: Sequence[float]) -> Figures:
    by_class = {
        name: _results(detections.of_class(label), thresholds) for label, name in detections.class_names.items()
    }
    return Figures(_mean(by_class, thresholds) if by_class else _results(detections, thresholds), by_class)


def _results(detections: DetectionSet, thresholds: Sequence[float]) -> dict[str, dict[float, APResult]]:
    matches = match_all(detections, thresholds)
    return {
        name: {t: average_precision(matches, t, global_sort=name == GLOBAL_SORT) for t in thresholds}
        for name in VARIANTS
    }


def _mean(by_class: Mapping[str, Results], thresholds: Sequence[float]) -> dict[str, dict[float, APResult]]:
    """The plain mean over the classes that have ground truth; NaN when none has."""

    def mean(name: str, threshold: float) -> APResult:
        return APResult(mean_over_classes(results[name][threshold].ap for results in by_class.values()), [], [])

    return {name: {t: mean(name, t) for t in thresholds} for name in VARIANTS}


def _unless_empty(key: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: content} if content else {}


def _areas(results: Results) -> dict[str, dict[str, float]]:
    return {
        name: {f"{threshold:g}": float(result.ap) for threshold, result in by_threshold.items()}
        for name, by_threshold in results.items()
    }


def _marks(by_threshold: Mapping[float, APResult]) -> str:
    return ", ".join(f"AP@{threshold:g} {_number(result.ap)}" for threshold, result in by_threshold.items())


def match_all(detections: DetectionSet, thresholds: Sequence[float] = THRESHOLDS) -> list[FrameMatch]:
    """Match every frame once, for all thresholds together."""
    return [match_frame(frame.boxes, frame.scores, frame.ground_truth, thresholds) for frame in detections]


def _warnings(detections: DetectionSet) -> list[str]:
    found = []
    if not len(detections):
        found.append("the split has no frame, so average precision is undefined (NaN).")
    elif not detections.ground_truth_count:
        found.append(
            "no ground truth in the whole run, so average precision is undefined (NaN); "
            "check test_dir and postprocess.gt_range."
        )
    if detections.ground_truth_count and not detections.detection_count:
        found.append(
            "nothing was detected in any frame, so average precision is 0; "
            "check the checkpoint and postprocess.target_args.score_threshold."
        )
    return found


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.4f}"
