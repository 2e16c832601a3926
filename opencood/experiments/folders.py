"""Run folders that are not where somebody says: all of them named at once, each with the nearest that exists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path

from opencood.errors import CheckpointError
from opencood.models.checkpoints import find_checkpoint

LEVELS_UP = 3
LEVELS_DOWN = 4
LEAST_LIKENESS = 0.6
MOST_FOLDERS = 5000


def checkpoints_of(folders: Iterable[Path]) -> list[tuple[Path, int]]:
    """The checkpoint of every run folder, and its epoch, by the published rule (spec tools.md 1).

    Raises:
        CheckpointError: folders are missing or hold no checkpoint; all of them are named, with the nearest that do.
    """
    found, problems = [], []
    for folder in folders:
        choice = find_checkpoint(folder) if folder.is_dir() else None
        if choice is not None:
            found.append(choice)
            continue
        what = "holds no checkpoint (net_epoch*.pth)" if folder.is_dir() else "there is no such folder"
        near = nearest_run(folder)
        problems.append(f"{folder}: {what}." + (f" Did you mean '{near}'?" if near else ""))
    if problems:
        raise CheckpointError(f"{' '.join(problems)} Nothing was written.")
    return found


def nearest_run(wanted: Path) -> Path | None:
    """The folder with a checkpoint whose path is most like the wanted one, or None.

    It is looked for below the nearest existing folder above the wanted one, then one level higher, and so on, so that
    ``stage2/m1`` is found as ``stage1/m1``.
    """
    home = next((parent for parent in (wanted, *wanted.parents) if parent.is_dir()), None)
    if home is None:
        return None
    for place in (home, *home.parents)[: LEVELS_UP + 1]:
        runs = [folder for folder in _runs_below(place) if folder != wanted]
        best = max(runs, key=lambda run: _likeness(run, wanted), default=None)
        if best is not None and _likeness(best, wanted) >= LEAST_LIKENESS:
            return best
    return None


def _likeness(run: Path, wanted: Path) -> float:
    """How alike two paths are; the last name decides, the whole path where last names are equally like."""
    last = SequenceMatcher(None, run.name, wanted.name).ratio()
    return last + 1e-3 * SequenceMatcher(None, str(run), str(wanted)).ratio()


def _runs_below(place: Path) -> Iterator[Path]:
    """Folders with a ``.pth`` file, not too deep and not too many."""
    depth = len(place.parts)
    for number, (folder, below, files) in enumerate(os.walk(place)):
        if number == MOST_FOLDERS:
            return
        below[:] = sorted(name for name in below if not name.startswith("."))
        if len(Path(folder).parts) - depth >= LEVELS_DOWN:
            below.clear()
        if any(name.endswith(".pth") for name in files):
            yield Path(folder)
