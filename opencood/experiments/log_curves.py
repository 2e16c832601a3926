"""From the printed lines of a training back to its curves (spec tools.md 2 and 4, ``check_tf``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from opencood.errors import DataError, StorageError
from opencood.training.curves import Curves
from opencood.training.journal import LINES, PUBLISHED

FOLDER = "trans"
TOTAL = ("Loss", "Total_loss")
_TAGS = dict([TOTAL, *PUBLISHED.values()])
_STEP = re.compile(r"\[epoch (\d+)\]\s?\[(\d+)/(\d+)\](\w*)\s*\|\|(.*)")
_FIELD = re.compile(r"\s*([^:|]+?):\s*(-?[\d.]+(?:[eE][-+]?\d+)?|nan|inf)\s*")
_VALIDATION = re.compile(r"At epoch (\d+), the validation loss is (\S+)")

Point = tuple[str, float, int]


def curves_of_log(folder: Path) -> tuple[int, Path]:
    """Write the curves of ``<folder>/log.log`` into ``<folder>/trans``; returns the number of points and that folder.

    Raises:
        DataError: there is no such log, or no line of a training in it.
        StorageError: the curves cannot be written.
    """
    file = folder / LINES
    try:
        points = list(points_of(file.read_text(encoding="utf-8", errors="replace").splitlines()))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Give the folder of a training.") from error
    if not points:
        raise DataError(f"{file}: holds no line such as '[epoch 0][1/100] || Loss: 1.0 || ...'.")
    target = folder / FOLDER
    try:
        target.mkdir(exist_ok=True)
        curves = Curves(target)
        for tag, value, step in points:
            curves.add(tag, value, step)
        curves.close()
    except OSError as error:
        raise StorageError(f"{target}: the curves cannot be written ({error.strerror}). Free some space.") from error
    return len(points), target


def points_of(lines: Iterable[str]) -> Iterator[Point]:
    """(tag, value, step) of printed lines; a training step counts batches, a validation epochs."""
    for line in lines:
        if found := _STEP.search(line):
            epoch, batch, batches = map(int, found.group(1, 2, 3))
            for name, value in _FIELD.findall(found[5]):
                tag = _TAGS.get(name, name.replace(" ", "_").lower().capitalize())
                yield tag + found[4], float(value), epoch * batches + batch - 1
        elif found := _VALIDATION.search(line):
            yield "Validate_Loss", float(found[2].rstrip(".,")), int(found[1])
