"""The check of a whole data set: every split, in one process or several, as findings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opencood.data import files
from opencood.data.index import folders_of
from opencood.data.readers.opv2v import OPV2VReader
from opencood.errors import ConfigError, DataError
from opencood.experiments.build import import_plugins
from opencood.experiments.dataset_check import judge
from opencood.experiments.dataset_check.look import MISSING, FrameLook, SplitReaders
from opencood.experiments.dataset_check.motion import missing_stamps, motion_of
from opencood.experiments.dataset_check.places import Split, find_splits
from opencood.experiments.dataset_check.summary import EXAMPLES, Summary, summarise
from opencood.experiments.finding import NOTE, PROBLEM, Finding, has_problem
from opencood.experiments.processes import fresh_processes
from opencood.simulation.writers.storage import write_json

_QUICK_FRAMES = 200  # frames of a split whose sensor files are read with --quick
_WITHOUT_SCENARIOS = ("dairv2x", "v2xsim")  # one list of frames of many drives: what follows is not what moved on
_CHUNK = 50  # frames that a process looks at before it reports


@dataclass(frozen=True)
class CheckOptions:
    """What to check.

    Attributes:
        root: data set, split, or list of frames.
        format: registered reader; None recognises it.
        need: kinds of data that must be there besides clouds (``judge.OPTIONAL``).
        quick: look at all files but read those of few frames only.
        jobs: processes.
        plugins: Python files that register a reader.
        hypes: further keys for the reader.
    """

    root: Path
    format: str | None = None
    need: tuple[str, ...] = ()
    quick: bool = False
    jobs: int = 1
    plugins: tuple[str, ...] = ()
    hypes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitReport:
    """What became of one split."""

    split: Split
    findings: tuple[Finding, ...]
    summary: Summary = field(default_factory=Summary)

    @property
    def can_start(self) -> bool:
        """Whether training can start on it."""
        return not has_problem(self.findings)

    def lines(self) -> list[str]:
        """The report as text."""
        head = f"{self.split.root} ({self.split.format})"
        return [head, *(f"  {finding}" for finding in self.findings)]

    def as_plain(self) -> dict[str, Any]:
        """The report as JSON knows it."""
        return {
            "split": self.split.name,
            "format": self.split.format,
            "root": str(self.split.root),
            "can_start": self.can_start,
            "figures": self.summary.as_plain(self.split.format),
            "findings": [vars(finding) for finding in self.findings],
        }


def check_dataset(options: CheckOptions) -> Iterator[SplitReport]:
    """Check one split after the other.

    Raises:
        ConfigError: unknown format, kind of data or plugin.
        DataError: there is no data set at the path.
    """
    unknown = sorted(set(options.need) - set(judge.OPTIONAL))
    if unknown:
        raise ConfigError(f"--need: '{unknown[0]}' is none of {', '.join(judge.OPTIONAL)}.")
    import_plugins({"plugins": list(options.plugins)})  # type: ignore[arg-type]
    seen: set[str] = set()
    for split in find_splits(options.root, options.format, options.hypes):
        report = _check_split(split, options)
        yield _with_overlap(report, seen)


def write_report(path: Path, root: Path, reports: Sequence[SplitReport]) -> None:
    """Write all reports as one JSON file.

    Raises:
        StorageError: the file cannot be written.
    """
    can_start = all(report.can_start for report in reports)
    write_json(path, {"root": str(root), "can_start": can_start, "splits": [report.as_plain() for report in reports]})


def _check_split(split: Split, options: CheckOptions) -> SplitReport:
    try:
        readers = SplitReaders(split)
    except DataError as error:
        return SplitReport(split, (Finding(PROBLEM, "opening", str(error)),))
    frames = len(readers.main)
    if not frames:
        return SplitReport(split, (Finding(PROBLEM, "opening", "no frame in it"),))
    looks = list(_looks(split, readers, frames, options))
    summary = summarise(looks)
    return SplitReport(split, tuple(_findings(readers, looks, summary, split, options.need)), summary)


def _findings(
    readers: SplitReaders, looks: Sequence[FrameLook], summary: Summary, split: Split, need: Collection[str]
) -> Iterator[Finding]:
    if summary.frames:
        yield from judge.inventory(summary, split.format)
    yield from judge.files(summary, split.format, len(looks), need)
    if split.format not in _WITHOUT_SCENARIOS:
        yield from judge.movement(motion_of(looks, split.root), missing_stamps(readers.main))
    if summary.objects:
        yield from judge.boxes(summary)
    if isinstance(readers.main, OPV2VReader):
        folders = [entry.name for entry in folders_of(split.root)]
        yield from judge.stray_folders([name for name in folders if name not in readers.main.index.tree])


def _looks(split: Split, readers: SplitReaders, frames: int, options: CheckOptions) -> Iterator[FrameLook]:
    """Look at every frame, with a progress bar; results in the order of the frames."""
    stride = max(1, frames // _QUICK_FRAMES) if options.quick else 1
    with tqdm(total=frames, desc=f"check {split.name}", unit="frame") as progress:
        if options.jobs == 1:
            for index in range(frames):
                yield _short(readers.look(index, index % stride == 0))
                progress.update()
            return
        with fresh_processes(options.jobs) as pool:
            chunks = [range(start, min(start + _CHUNK, frames)) for start in range(0, frames, _CHUNK)]
            futures = [pool.submit(_look_at_chunk, split, chunk, stride, options.plugins) for chunk in chunks]
            for future in as_completed(futures):
                progress.update(len(future.result()))
            for future in futures:
                yield from future.result()


def _look_at_chunk(split: Split, chunk: range, stride: int, plugins: Sequence[str]) -> list[FrameLook]:
    import_plugins({"plugins": list(plugins)})  # type: ignore[arg-type]
    readers = SplitReaders(split)  # the index comes from its cache
    return [_short(readers.look(index, index % stride == 0)) for index in chunk]


def _short(look: FrameLook) -> FrameLook:
    """Keep a few of the missing files of a frame: a data set without depth misses thousands, and agents count them."""
    missing = [trouble for trouble in look.troubles if trouble.state == MISSING]
    kept = [trouble for trouble in look.troubles if trouble.state != MISSING] + missing[: 4 * EXAMPLES]
    return replace(look, troubles=tuple(kept))


def _with_overlap(report: SplitReport, seen: set[str]) -> SplitReport:
    """Add a note when a scenario was in an earlier split already."""
    own = list(report.summary.scenarios) if files.is_dir(report.split.root) else []
    shared = [name for name in own if name in seen]
    seen.update(own)
    if not shared:
        return report
    found = f"{len(shared)} also in an earlier split, such as {shared[0]}"
    note = Finding(NOTE, "scenarios", found, "training and test must not share scenarios")
    return replace(report, findings=(*report.findings, note))
