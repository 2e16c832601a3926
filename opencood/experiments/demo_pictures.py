"""The pictures of the demonstration: the frame that profits most from collaboration, and the table as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.report import GLOBAL_SORT, THRESHOLDS, Report, match_all
from opencood.experiments.build import build_dataset
from opencood.experiments.participants import participants
from opencood.experiments.pictures import scene_of
from opencood.experiments.run_folder import open_run_folder
from opencood.visualization.bev import draw_comparison
from opencood.visualization.charts import draw_ap_bars


def draw_demo_pictures(
    out: Path, reports: Mapping[str, Report], found: Mapping[str, DetectionSet], run_dir: Path
) -> list[str]:
    """Draw ``comparison.png`` and ``ap.png``; returns their paths and those of the pictures drawn during evaluation."""
    labels = list(reports)
    alone, together = found[labels[0]], found[labels[-1]]
    frame = most_telling_frame(alone, together)
    hypes, _ = open_run_folder(run_dir)
    dataset = build_dataset(hypes, train=False, visualize=True)
    agents = participants(dataset, dataset.collate_batch_test([dataset[frame]]))
    subtitle = f"test frame {frame}"
    scenes = [
        scene_of(agents, detections.frames[frame], hypes, heard, title=label.capitalize(), subtitle=subtitle)
        for label, detections, heard in ((labels[0], alone, 1), (labels[-1], together, None))
    ]
    comparison = draw_comparison(scenes, out / "comparison.png", "The same moment, alone and together")
    bars = draw_ap_bars(
        [(label, {t: report.ap(t, GLOBAL_SORT) for t in THRESHOLDS}) for label, report in reports.items()],
        out / "ap.png",
        [f"{report.megabits_per_frame or 0:.3g} Mbit/frame" for report in reports.values()],
        "Average precision on simulated traffic",
    )
    views = sorted(run_dir.parent.glob("*/vis_*"))
    return [str(comparison), str(bars), *(f"{folder}/bev_*.png" for folder in views)]


def most_telling_frame(alone: DetectionSet, together: DetectionSet, threshold: float = 0.5) -> int:
    """Index of the frame in which collaboration finds most objects that the ego alone misses, without false alarms."""

    def benefit(found: DetectionSet) -> np.ndarray:
        hits = [match.true_positive[threshold] for match in match_all(found, (threshold,))]
        return np.array([2 * np.sum(hit) - len(hit) for hit in hits], np.int64)

    return int(np.argmax(benefit(together) - benefit(alone)))
