"""A run that starts from the weights of other runs, as the stages of staged training do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from opencood.config.loader import Hypes
from opencood.config.save import digest, save_config
from opencood.errors import CheckpointError
from opencood.evaluation.files import write_text
from opencood.experiments.protocol import file_digest
from opencood.models.checkpoint_tools import merge_state_dicts, parts_only, rename_keys
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
    stamp = f"configuration {digest(hypes)}\nweights {found[0]} {file_digest(found[0])}\n"
    prepare_run(folder, hypes, stamp, [found[0]], renames)


def prepare_run(
    folder: Path,
    hypes: Hypes,
    stamp: str,
    weights: Sequence[Path] = (),
    renames: Mapping[str, str] | None = None,
    parts: Sequence[str] = (),
) -> None:
    """Make a run folder with a configuration and perhaps weights to start from.

    Args:
        folder: the run folder. It stays as it is when it was prepared with the same ``stamp``, so that its training
            goes on; else what is in it is removed.
        stamp: text that tells this run from others: digests of all that decides it.
        weights: checkpoints to start from, merged, the last of which wins.
        renames: key patterns of the merged weights -> those of the new detector.
        parts: modules to take; all when empty.
    """
    marker = folder / ORIGIN
    if marker.is_file() and marker.read_text() == stamp:
        return
    state: dict[str, Tensor] = {}
    for file in weights:
        state = merge_state_dicts(state, read_state_dict(file))
    if parts:
        state = parts_only(state, parts)
    state = rename_keys(state, renames or {})
    shutil.rmtree(folder, ignore_errors=True)
    save_config(hypes, folder)
    if state:
        write_state_dict(state, folder / START)
    write_text(marker, stamp)
