"""Charts of results that are already there: AP against noise, trainings against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opencood.config.reader import read_document
from opencood.errors import DataError
from opencood.experiments.noise import GENCOMM_LEVELS
from opencood.training.journal import LOG
from opencood.visualization.charts import Curve, draw_curves

_KEYS = {"ap30": "AP@0.3", "ap50": "AP@0.5", "ap70": "AP@0.7"}


def draw_noise(files: Sequence[Path], out: Path) -> Path:
    """AP against pose noise: a panel for each IoU threshold, a curve for each summary (``AP030507*.yaml``).

    Raises:
        DataError: a file is not such a summary.
    """
    panels: dict[str, dict[str, Curve]] = {name: {} for name in _KEYS.values()}
    for file in files:
        content = read_document(file).data
        for key, name in _KEYS.items():
            values = content.get(key)
            if not isinstance(values, list):
                raise DataError(f"{file}: {key}: expected a list over levels of noise, as inference_w_noise.py writes.")
            levels = content.get("levels") or GENCOMM_LEVELS[: len(values)]  # published files do not name them
            panels[name][_name(file, files)] = (list(levels), values)
    titled = {f"{name}: pose noise, m and degrees": curves for name, curves in panels.items()}
    return draw_curves(titled, out, height="AP", marked=True)


def draw_training(runs: Sequence[Path], out: Path) -> Path:
    """Validation loss and speed of trainings, over epochs.

    Raises:
        DataError: a folder holds no log of a training.
    """
    loss: dict[str, Curve] = {}
    speed: dict[str, Curve] = {}
    for run in runs:
        events = _events(run / LOG)
        validations = [entry for entry in events if entry["event"] == "validation"]
        loss[run.name] = ([entry["epoch"] for entry in validations], [entry["loss"] for entry in validations])
        last_of_epoch = {entry["epoch"]: entry["samples_per_second"] for entry in events if entry["event"] == "step"}
        speed[run.name] = (list(last_of_epoch), list(last_of_epoch.values()))
    return draw_curves({"epoch (validation loss)": loss, "epoch (samples per second)": speed}, out, marked=True)


def _events(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text().splitlines() if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: is not the log of a training here ({error}). For others: check_tf.py.") from error


def _name(file: Path, files: Sequence[Path]) -> str:
    """The run folder, or the file where several lie in one."""
    parents = {other.parent for other in files}
    return file.parent.name if len(parents) == len(files) else f"{file.parent.name}/{file.stem}"
