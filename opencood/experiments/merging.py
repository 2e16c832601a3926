"""Checkpoints of several runs into one, and other edits of checkpoint files (spec tools.md 4, models.md 6.2)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from opencood.config.loader import CONFIG_NAME, load_yaml
from opencood.errors import CheckpointError, ConfigError, StorageError
from opencood.evaluation.files import write_text
from opencood.experiments.build import build_from_scratch
from opencood.experiments.folders import checkpoints_of
from opencood.models import checkpoint_tools as tools
from opencood.models.checkpoints import BEST, NUMBERED, read_state_dict

log = logging.getLogger(__name__)

MERGED = "net_epoch1.pth"
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """One merged checkpoint: its file, its epoch, its entries, and how many of them are in the result."""

    file: Path
    epoch: int
    entries: int
    kept: int


@dataclass(frozen=True)
class Merged:
    """What merging did.

    Attributes:
        file: the merged checkpoint.
        sources: in the order given; the last one is the collaboration base, whose values win.
        dropped: parts of late fusion that were left out, with their number of entries.
        conflicts: ``name: file that lost -> file that won``.
        remarks: what else the reader must know.
    """

    file: Path
    sources: tuple[Source, ...]
    dropped: Mapping[str, int]
    conflicts: tuple[str, ...]
    remarks: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a command line prints."""
        lines = [f"{s.file} (epoch {s.epoch}): {s.kept} of {s.entries} entries taken" for s in self.sources]
        lines[-1] += "  <- collaboration base, wins where entries differ"
        if self.dropped:
            parts = ", ".join(f"{part} ({count})" for part, count in self.dropped.items())
            lines.append(f"dropped, of late fusion only: {parts}")
        lines += [f"conflict: {conflict}" for conflict in self.conflicts]
        return [*lines, *self.remarks, f"wrote {self.file}"]


def merge_runs(
    folders: Sequence[Path],
    out: Path,
    config: Path | None = None,
    renames: Mapping[Path, Mapping[str, str]] | None = None,
) -> Merged:
    """Fold the checkpoints of run folders into ``out/net_epoch1.pth``; later ones override, the base comes last.

    Before each is added, what the result so far holds of late fusion only is dropped (published rule: so the last
    folder alone may have heads by modality).

    Args:
        folders: at least one run folder.
        out: run folder of the result; made when it is missing.
        config: hypes file to put there as ``config.yaml``.
        renames: rules old -> new for the entries of single folders (``checkpoint_tools.rename_keys``).

    Raises:
        CheckpointError: folders are missing or empty (all are named, nothing is written), or a file is unreadable.
        ConfigError: there is no such ``config``.
        StorageError: the result cannot be written.
    """
    try:
        found = checkpoints_of(folders)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Nothing was written.") from error
    if config is not None and not config.is_file():
        raise ConfigError(f"--config: there is no file '{config}'.")
    rules = [(renames or {}).get(folder, {}) for folder in folders]
    states = [tools.rename_keys(read_state_dict(file), own) for (file, _), own in zip(found, rules, strict=True)]
    merged: dict[str, Tensor] = {}
    owner: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    conflicts: list[str] = []
    for number, state in enumerate(states):
        late = [key for key in merged if tools.is_late_only(key)]
        dropped.update(key.partition(".")[0] for key in late)
        conflicts += [
            f"{key}: {found[owner[key]][0]} -> {found[number][0]}" for key in tools.conflicts(merged, state)
            if key not in late
        ]  # fmt: skip
        merged = tools.merge_state_dicts(merged, state)
        owner |= dict.fromkeys(state, number)
    kept = Counter(owner[key] for key in merged)
    sources = (Source(file, epoch, len(states[n]), kept[n]) for n, (file, epoch) in enumerate(found))
    file, remarks = _write(out, merged, config)
    return Merged(file, tuple(sources), dropped, tuple(conflicts), tuple(remarks))


def rename_to_new_version(file: Path) -> Path:
    """Give the entries of an early version their names of today, in place; the old file is kept."""
    return _edit(file, tools.with_new_names)


def remove_m4_trunk(file: Path) -> Path:
    """Drop the unused image trunk of modality m4, in place; the old file is kept."""
    return _edit(file, lambda state: tools.without_parts(state, tools.UNUSED_TRUNK))


def rename(file: Path, direction: str) -> Path:
    """Give the entries the names of another family (see ``models.renaming``), in place; the old file is kept."""
    tools.rename_model_dict_keys(file, direction)
    return file


def add_head_suffix(folder: Path, suffix: str, out: Path) -> Path:
    """Write the checkpoint of a run folder with ``_suffix`` behind the names of its heads to ``out``."""
    [(file, _)] = checkpoints_of([folder])
    written, _ = _write(out, tools.with_head_suffix(read_state_dict(file), suffix), None)
    return written


def rename_type(folder: Path, old: str, new: str, out: Path) -> Path:
    """Write the checkpoint of a run folder to ``out`` with its type ``old`` called ``new``, fusion and heads included.

    Raises:
        CheckpointError: there is no checkpoint, or no such type in it.
    """
    [(file, _)] = checkpoints_of([folder])
    try:
        written, _ = _write(out, tools.as_type(read_state_dict(file), old, new), None)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return written


def merge_with_adapters(model_dir: Path, adapter_dir: str, sub_dir: str, with_protocol: bool) -> list[str]:
    """Put STAMP's detectors and adapters into one: ``<model_dir>/final_infer/<adapter_dir>/net_epoch1.pth``.

    That folder's ``config.yaml`` says what is built. Loaded are, one after the other, the runs below ``local/``, those
    below ``<sub_dir>/<adapter_dir>/``, and, where it is asked for, ``protocol``; every entry that fits is taken.
    Returns lines that say what was taken from where.

    Raises:
        ConfigError: there is no configuration.
        CheckpointError: there is no run to take from, or one holds no checkpoint; nothing is written then.
    """
    out = model_dir / "final_infer" / adapter_dir
    hypes = load_yaml(None, model_dir=out)
    runs = [run for place in (model_dir / "local", model_dir / sub_dir / adapter_dir) for run in _runs_in(place)]
    runs += [model_dir / "protocol"] if with_protocol else []
    found = checkpoints_of(runs)
    model = build_from_scratch(hypes)
    taken, told = dict(model.state_dict()), []
    for file, _ in found:
        fits = {k: v for k, v in read_state_dict(file).items() if k in taken and v.shape == taken[k].shape}
        taken |= fits
        told.append(f"{file}: {len(fits)} of the detector's {len(taken)} entries")
    file, remarks = _write(out, taken, None)
    return [*told, *remarks, f"wrote {file}"]


def _runs_in(place: Path) -> list[Path]:
    runs = sorted(folder for folder in place.iterdir() if folder.is_dir()) if place.is_dir() else []
    if not runs:
        raise CheckpointError(f"{place}: there is no run folder in it. Nothing was written.")
    return runs


def half_precision(folder: Path, out: Path, without: Sequence[str] = ()) -> Path:
    """Write the checkpoint of a run folder to ``out`` with floating point numbers of 16 bits; half the size.

    Detectors read it as any other.

    Args:
        without: modules to leave out, such as those that never run.

    Raises:
        CheckpointError: the folder has no checkpoint, or a number is too large for 16 bits.
    """
    [(file, _)] = checkpoints_of([folder])
    state = tools.without_parts(read_state_dict(file), without)
    halved = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    lost = [key for key, value in halved.items() if value.isinf().any()]
    if lost:
        raise CheckpointError(f"{file}: {', '.join(lost)} holds numbers that are too large for 16 bits.")
    written, _ = _write(out, halved, None)
    return written


def _edit(file: Path, change: Callable[[State], State]) -> Path:
    state = read_state_dict(file)
    changed = change(state)
    if list(changed) == list(state):
        raise CheckpointError(f"{file}: there is nothing to change in it; it was left as it is.")
    return tools.rewrite(file, changed)


def _write(out: Path, state: State, config: Path | None) -> tuple[Path, list[str]]:
    """Write the result, and say what is odd about the folder it went to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out}: cannot be made ({error.strerror}). The output folder is the last one.") from error
    target = out / MERGED
    remarks = [f"note: {target} was there already; it is kept as {MERGED}{tools.OLD_VERSION}"] * target.is_file()
    file = tools.rewrite(target, state)
    if config is not None:
        write_text(out / CONFIG_NAME, config.read_text())
    preferred = sorted(path.name for path in _preferred(out))
    if preferred:
        remarks.append(f"warning: {out} also holds {', '.join(preferred)}, which is loaded instead of {MERGED}")
    if not any(out.glob("*.y*ml")):
        remarks.append(f"note: {out} has no {CONFIG_NAME} yet; copy the hypes file of the merged detector there")
    return file, remarks


def _preferred(out: Path) -> Iterable[Path]:
    """Checkpoints that the published rule prefers to the merged one."""
    return [
        path
        for path in out.iterdir()
        if BEST.fullmatch(path.name) or ((n := NUMBERED.fullmatch(path.name)) and int(n[1]) > 1)
    ]
