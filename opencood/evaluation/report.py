"""The numbers of one evaluation, with everything needed to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from opencood.evaluation.average_precision import APResult, average_precision
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.figures import Figures, Results, areas, marks
from opencood.evaluation.matching import FrameMatch, match_frame
from opencood.evaluation.subsets import Bands, in_band, mean_over_classes, only

THRESHOLDS = (0.3, 0.5, 0.7)

# Both published ways to order detections before precision and recall are accumulated (evaluation.md, section 7).
GLOBAL_SORT = "global_sort"
FRAME_ORDER = "frame_order"
VARIANTS = (GLOBAL_SORT, FRAME_ORDER)


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
        ground_truths_by_class: class -> how many there are, where there are several classes.
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
    ground_truths_by_class: Mapping[str, int] = field(default_factory=dict)

    def ap(self, threshold: float, variant: str | None = None) -> float:
        """Average precision at an IoU threshold; NaN when the run had no ground truth."""
        return float(self.results[variant or self.variant][threshold].ap)

    def published(self, variant: str | None = None) -> dict[str, Any]:
        """The keys of a published result file (evaluation.md, section 8)."""
        return self.whole.published(variant or self.variant)

    def published_classes(self, variant: str | None = None) -> dict[str, Any]:
        """The content of a published result file of several classes: class -> IoU threshold -> ap, mrec, mpre."""
        return self.whole.published_classes(variant or self.variant)

    @property
    def whole(self) -> Figures:
        """The figures of everything, as those of a band."""
        return Figures(self.results, self.by_class, self.ground_truths, self.ground_truths_by_class)

    def content(self, variant: str | None = None) -> dict[str, Any]:
        """The whole result file: the published keys, then both variants, circumstances and protocol."""
        chosen = variant or self.variant
        return self.published(chosen) | {
            "ap_variant": chosen,
            "ap_by_variant": areas(self.results),
            **_unless_empty("ap_by_class", {name: areas(results) for name, results in self.by_class.items()}),
            **_unless_empty("ap_by_range", {name: figures.areas() for name, figures in self.by_range.items()}),
            "frames": self.frames,
            "ground_truths": self.ground_truths,
            **_unless_empty("ground_truths_by_class", dict(self.ground_truths_by_class)),
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
            chosen = "   (reported)" if name == self.variant else ""
            text.append(f"{name:<12} {marks(by_threshold)}{chosen}")
        text += self.whole.line("", self.variant)[1:]
        text += [line for name, figures in self.by_range.items() for line in figures.line(name, self.variant)]
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
        ground_truths=whole.ground_truths,
        ground_truths_by_class=whole.ground_truths_by_class,
        detections=detections.detection_count,
        variant=variant,
        megabits_per_frame=detections.megabits_per_frame(),
        frames_per_second=frames_per_second,
        notes=tuple(notes) + tuple(_warnings(detections)),
    )


def _figures(detections: DetectionSet, thresholds: Sequence[float]) -> Figures:
    of_class = {name: detections.of_class(label) for label, name in detections.class_names.items()}
    by_class = {name: _results(part, thresholds) for name, part in of_class.items()}
    return Figures(
        _mean(by_class, thresholds) if by_class else _results(detections, thresholds),
        by_class,
        detections.ground_truth_count,
        {name: part.ground_truth_count for name, part in of_class.items()},
    )


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
