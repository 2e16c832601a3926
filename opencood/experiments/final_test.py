"""The test that published trainers run when they are done (spec tools.md 2, codealign.md 6)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of
from opencood.config.loader import Hypes
from opencood.config.pretrain import is_pretraining
from opencood.config.splits import split_paths
from opencood.config.tree import lookup, section
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.result_rows import lines_of
from opencood.experiments.task_average import COLUMNS, run_task_average, write_average

log = logging.getLogger(__name__)


def run_final_test(
    hypes: Hypes, run_dir: Path, method: str, device: str, workers: int | None = None, pairs: bool = False
) -> None:
    """Test a finished run, unless ``train_params.skip_post_train_eval`` or the missing data say otherwise.

    Args:
        method: see ``fusion_methods.METHODS``.
        device, workers: those of the training; None for the number of workers of an inference.
        pairs: test a detector of CodeAlign on pairs of modalities.
    """
    if section(hypes, "train_params").get("skip_post_train_eval"):
        return
    if is_pretraining(hypes):
        log.info("no test after pretraining: %s detects nothing.", lookup(hypes, "model.core_method"))
        return
    test_dir = hypes.get("test_dir")
    if not test_dir or not all(Path(path).exists() for path in split_paths(test_dir)):
        log.warning("no test after training: test_dir (%s) does not exist.", test_dir)
        return
    given: dict[str, Any] = {} if workers is None else {"workers": workers}
    options = InferenceOptions(model_dir=run_dir, fusion_method=method, device=device, **given)
    if pairs and flavor_of(hypes) == "codealign":
        average = write_average(dict(run_task_average(options)), run_dir)
        lines = lines_of(average.rows, COLUMNS)
    else:
        lines = run_inference(options).lines()
    for line in lines:
        log.info("%s", line)
