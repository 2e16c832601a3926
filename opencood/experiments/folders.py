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
        raise CheckpointError(" ".join(problems))
    return found


def nearest_run(wanted: Path) -> Path | None:
    """The folder with a checkpoint whose path is most like the wanted one, or None.

    It is looked for below the nearest existing folder above the wanted one, then one level higher, and so on: first
    under the same name, so that ``stage2/m1`` is found as ``stage1/m1``, then under a name that is alike.
    """
    home = next((parent for parent in (wanted, *wanted.parents) if parent.is_dir()), None)
    if home is None:
        return None
    places = (home, *home.parents)[: LEVELS_UP + 1]
    for least in (1.0, LEAST_LIKENESS):
        for place in places:
            runs = [run for run in _runs_below(place) if run != wanted and _alike(run.name, wanted.name) >= least]
            if runs:
                return max(runs, key=lambda run: (_alike(run.name, wanted.name), _alike(str(run), str(wanted))))
    return None


def _alike(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second).ratio()


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
