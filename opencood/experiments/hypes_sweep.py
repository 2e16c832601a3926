"""Check many hypes files at once: build all, step each different one once, compare with a reference, count."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from opencood.config.loader import load_file
from opencood.errors import ConfigError
from opencood.experiments.hypes_check import BUILT, FAILED, STEPPED, Checked, check_file, guarded, hypes_files
from opencood.experiments.hypes_step import Stepped, step
from opencood.experiments.step_scenes import make_scenes

COLUMNS = ("files", "built", "stepped", "refused", "failed")
Mapped = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Step = tuple[Stepped | None, str, bool]


@dataclass(frozen=True)
class SweepOptions:
    """What to do with the files among and below some paths.

    Attributes:
        paths: files and folders.
        build: also build detectors.
        step: also step what was built.
        jobs: processes.
        reference: JSON file that maps ``<repository>/<path>`` to the figures that a reference gives (keys ``sha1``, or
            ``repaired.sha1`` for files that only build after their repair).
    """

    paths: tuple[Path, ...]
    build: bool = True
    step: bool = False
    jobs: int = 1
    reference: Path | None = None


def sweep(options: SweepOptions) -> Iterator[Checked]:
    """Check all files, in order of their paths.

    Raises:
        ConfigError: a path does not exist, there is no YAML file, or the reference cannot be read.
    """
    files = hypes_files(options.paths)
    known = _reference(options.reference)
    expected = [_expected(path, known) for path in files]
    with _workers(options.jobs) as mapped:
        checks = list(mapped(partial(_check, options.build), list(zip(files, expected, strict=True))))
        if not options.step:
            yield from checks
            return
        with tempfile.TemporaryDirectory(prefix="opencood_scenes_") as scenes:
            yield from _step_all(checks, Path(scenes), mapped)


def summary(checks: Iterable[Checked]) -> list[str]:
    """A table with a line for each repository: files, built, stepped, refused, failed, and how many are as expected.

    A line below it counts the steps for which something had to be changed or left out.
    """
    listed = list(checks)
    groups = [*dict.fromkeys(check.group for check in listed), "all"]
    rows: list[tuple[str, ...]] = [("repository", *COLUMNS, "as the reference")]
    for group in groups:
        members = [check for check in listed if group in (check.group, "all")]
        count = Counter(check.outcome for check in members)
        built = sum(check.model is not None for check in members)
        known = [check for check in members if check.expected]
        agree = f"{sum(check.agrees for check in known)} of {len(known)}" if known else "-"
        rows.append((group, *map(str, (len(members), built, *(count[name] for name in COLUMNS[2:]))), agree))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    changed = sum(check.stepped is not None and bool(check.stepped.remarks) for check in listed)
    notes = [f"{changed} stepped with something changed or left out, see their warnings"] if changed else []
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ] + notes


def _check(build: bool, task: tuple[Path, str]) -> Checked:
    path, expected = task
    return check_file(path, build, expected)


def _step_all(checks: list[Checked], scenes: Path, mapped: Mapped) -> Iterator[Checked]:
    """Step the first file of each key, and give its result to all."""
    first: dict[str, Checked] = {}
    for check in checks:
        if check.outcome == BUILT:
            first.setdefault(check.step_key, check)
    if first:
        make_scenes(scenes, {check.dataset for check in first.values()})
    results = iter(mapped(partial(_step, scenes), [check.path for check in first.values()]))
    done: dict[str, Step] = {}
    for check in checks:
        if check.outcome != BUILT:
            yield check
            continue
        if check.step_key not in done:
            done[check.step_key] = next(results)
        yield _with_step(check, done[check.step_key])


def _with_step(check: Checked, result: Step) -> Checked:
    stepped, error, _ = result
    if stepped is None:  # what builds also steps, so a clear message does not excuse it
        return replace(check, outcome=FAILED, error=f"built, but its step failed: {error}")
    return replace(check, outcome=STEPPED, stepped=stepped)


def _step(scenes: Path, path: Path) -> Step:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were told when the file was checked
        return guarded(lambda: step(load_file(path, repair=True), scenes))


@contextmanager
def _workers(jobs: int) -> Iterator[Mapped]:
    """A ``map`` that keeps the order: in this process, or in fresh ones that share the cores."""
    if jobs == 1:
        yield map
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _reference(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--reference {path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--reference {path}: expected a map from files to figures.")
    return content


def _expected(path: Path, known: Mapping[str, Any]) -> str:
    """The digest that a reference gives for a file, found by the longest end of its path that is a key."""
    parts = path.absolute().parts
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    entry: Mapping[str, Any] = next((known[end] for end in ends if end in known), {})
    return entry.get("sha1") or (entry.get("repaired") or {}).get("sha1") or ""
