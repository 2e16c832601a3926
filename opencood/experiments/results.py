"""Names and places of result files (tools.md section 3, evaluation.md section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencood.config.inheritance import REPLACE
from opencood.evaluation.files import write_yaml
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT, Report
from opencood.experiments.run_folder import RangeChoice

_WRITES_BOTH = ("gencomm", "stamp")
REPORTS_BANDS = ("coopre", "v2v4real")  # eval.yaml, short_eval.yaml, middle_eval.yaml, long_eval.yaml


def infer_info(method: str, note: str, range_choice: RangeChoice, epoch: int, agents: int | None = None) -> str:
    """``<method><note>_<X>_<Y>_epoch<N>``: the range only for heterogeneous files, agents only when restricted."""
    x, y = range_choice.used_xy
    range_part = f"_{x}_{y}" if range_choice.heterogeneous else ""
    agents_part = "" if agents is None else f"_use_cav{agents}"
    return f"{method}{note}{range_part}_epoch{epoch}{agents_part}"


def perturb_note(section: Mapping[str, Any] | None) -> str:
    """What a disturbed run adds to its names, such as ``_fog_50``, so that it overwrites no other result."""
    parts = []
    for name, content in (section or {}).items():
        if name == REPLACE:
            parts.append("_no_perturb")
            continue
        if content is False:
            parts.append(f"_no_{name}")
            continue
        # Neither when it applies, nor paths and maps of further arguments.
        said = {key: value for key, value in content.items() if key != "when" and not isinstance(value, Mapping)}
        values = [value for value in said.values() if "/" not in str(value)]
        shown = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        parts.append("".join(f"_{word}" for word in (name, *shown)))
    return "".join(parts)


def channel_note(section: Mapping[str, Any] | None) -> str:
    """What a run over a worse channel adds to its names, such as ``_drop_0.1``."""
    return "".join(
        f"_{key}_{value:g}" if isinstance(value, float) else f"_{key}_{value}" for key, value in (section or {}).items()
    )


def split_note(test_dir: str | None, dataset_mode: str | None) -> str:
    """What a run on another split adds to its names, such as ``_test_culver_city_vc``."""
    parts = [] if test_dir is None else [Path(test_dir).name]
    return "".join(f"_{part}" for part in [*parts, dataset_mode or ""] if part)


def labelled(path: Path | None, label: str) -> Path | None:
    """The file of one of several evaluations: ``boxes.npz`` -> ``boxes_<label>.npz``."""
    return None if path is None else path.with_name(f"{path.stem}_{label}{path.suffix}")


def write_results(report: Report, folder: Path, info: str) -> list[Path]:
    """Write ``eval_<info>.yaml``; GenComm's flavors write the sorted variant to a file of its own, as published.

    Where there are several classes, their published files ``<variant>_<info>_eval.yaml`` come beside it. CooPre's and
    V2V4Real's flavors write ``<band>_eval.yaml`` for every band of distances, and ``eval.yaml`` for all.
    """
    plain = folder / (f"eval_{info}.yaml" if info else "eval.yaml")
    if report.protocol.get("flavor") in REPORTS_BANDS:
        return [write_yaml(plain, report.content()), *_write_bands(report, folder)]
    if report.protocol.get("flavor") not in _WRITES_BOTH:
        return [write_yaml(plain, report.content())]
    is_sorted = folder / f"eval_global_sort_{info}.yaml"
    written = [write_yaml(is_sorted, report.content(GLOBAL_SORT)), write_yaml(plain, report.content(FRAME_ORDER))]
    if report.by_class:
        for variant, stem in ((GLOBAL_SORT, "global_sort"), (FRAME_ORDER, "")):
            file = folder / f"{stem}_{info}_eval.yaml"
            written.append(write_yaml(file, report.published_classes(variant)))
    return written


def _write_bands(report: Report, folder: Path) -> list[Path]:
    """The published files of the newest evaluation: plain keys, or by class where there are several."""
    figures = {
        "": report.whole,
        **{f"{name.replace(' ', '')}_": band for name, band in report.by_range.items() if name != "all"},
    }
    return [
        write_yaml(
            folder / f"{prefix}eval.yaml",
            one.published_classes(report.variant) if one.by_class else one.published(report.variant),
        )
        for prefix, one in figures.items()
    ]
