"""Average precision as figures: by variant, threshold and class, and the keys of published result files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opencood.evaluation.average_precision import APResult

# The keys of published result files: note the missing underscore of the first.
_AP_KEYS = {0.3: "ap30", 0.5: "ap_50", 0.7: "ap_70"}
_CURVE_KEYS = {0.5: ("mpre_50", "mrec_50"), 0.7: ("mpre_70", "mrec_70")}

Results = Mapping[str, Mapping[float, APResult]]  # variant -> IoU threshold -> average precision


@dataclass(frozen=True)
class Figures:
    """Average precision of all, or of what lies in a band of distances, as in :class:`Report`.

    Attributes:
        results, by_class: see :class:`Report`.
        ground_truths: how many there are.
        ground_truths_by_class: the same for each class, where there are several.
    """

    results: Results
    by_class: Mapping[str, Results] = field(default_factory=dict)
    ground_truths: int = 0
    ground_truths_by_class: Mapping[str, int] = field(default_factory=dict)

    def areas(self) -> dict[str, Any]:
        """Areas alone, by variant and threshold, and by class where there are several, with their ground truths."""
        by_class = {
            name: areas(results) | {"ground_truths": self.ground_truths_by_class[name]}
            for name, results in self.by_class.items()
        }
        return (
            areas(self.results) | {"ground_truths": self.ground_truths} | ({"by_class": by_class} if by_class else {})
        )

    def published(self, variant: str) -> dict[str, Any]:
        """The keys of a published result file (evaluation.md, section 8)."""
        results = self.results[variant]
        content: dict[str, Any] = {key: float(results[t].ap) for t, key in _AP_KEYS.items() if t in results}
        for threshold, (precision_key, recall_key) in _CURVE_KEYS.items():
            if threshold in results:
                content[precision_key] = [float(value) for value in results[threshold].precision]
                content[recall_key] = [float(value) for value in results[threshold].recall]
        return content

    def published_classes(self, variant: str) -> dict[str, Any]:
        """The content of a published result file of several classes: class -> IoU threshold -> ap, mrec, mpre."""

        def curve(result: APResult) -> dict[str, Any]:
            lists = {"mrec": result.recall, "mpre": result.precision}
            return {"ap": float(result.ap)} | {key: [float(value) for value in lists[key]] for key in lists}

        return {
            name: {float(threshold): curve(result) for threshold, result in results[variant].items()}
            for name, results in self.by_class.items()
        }

    def line(self, name: str, variant: str) -> list[str]:
        """What a command line prints of it: all, then each class."""
        rows = [(name, self.results, self.ground_truths)]
        rows += [(f"  {one}", results, self.ground_truths_by_class[one]) for one, results in self.by_class.items()]
        return [f"  {label:<12} {marks(results[variant])}  ({truths} objects)" for label, results, truths in rows]


def areas(results: Results) -> dict[str, dict[str, float]]:
    """Areas under the curves, by variant and threshold."""
    return {
        name: {f"{threshold:g}": float(result.ap) for threshold, result in by_threshold.items()}
        for name, by_threshold in results.items()
    }


def marks(by_threshold: Mapping[float, APResult]) -> str:
    """What a command line prints of one variant."""
    return ", ".join(f"AP@{threshold:g} {_number(result.ap)}" for threshold, result in by_threshold.items())


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.4f}"
