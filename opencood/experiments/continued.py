"""A run that starts from the weights of another run, as the stages of staged training do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from opencood.config.loader import Hypes
from opencood.config.save import digest, save_config
from opencood.errors import CheckpointError
from opencood.evaluation.files import write_text
from opencood.experiments.protocol import file_digest
from opencood.models.checkpoint_tools import rename_keys
from opencood.models.checkpoints import find_checkpoint, read_state_dict, write_state_dict

ORIGIN = "started_from.txt"
START = "net_epoch0.pth"


def prepare_continued_run(folder: Path, hypes: Hypes, origin: Path, renames: Mapping[str, str]) -> None:
    """Make a run folder whose training starts with the weights of ``origin``; an unfinished run of the same kind stays.

    Args:
        folder: the run folder; what another configuration or other weights left in it is removed.
        hypes: configuration of the new run.
        origin: finished run folder.
        renames: key patterns of the origin's weights -> those of the new detector.

    Raises:
        CheckpointError: the origin has no checkpoint.
        StorageError: something cannot be written.
    """
    found = find_checkpoint(origin)
    if found is None:
        raise CheckpointError(f"{origin}: holds no checkpoint to start from; train it first.")
    source = found[0]
    stamp = f"configuration {digest(hypes)}\nweights {source} {file_digest(source)}\n"
    marker = folder / ORIGIN
    if marker.is_file() and marker.read_text() == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    save_config(hypes, folder)
    write_state_dict(rename_keys(read_state_dict(source), renames), folder / START)
    write_text(marker, stamp)
