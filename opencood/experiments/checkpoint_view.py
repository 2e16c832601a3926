"""What is in a checkpoint, and how two differ (spec tools.md 4: ``cal_param``, ``compare_ckpt``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.tables import text_table
from opencood.experiments.folders import checkpoints_of
from opencood.models.checkpoints import BEST, NUMBERED, read_state_dict
from opencood.training.checkpoints import LAST, read_last

State = Mapping[str, Tensor]
# Entries that batch norm keeps beside its parameters.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Opened:
    """A checkpoint with what its name or content tells about its epoch."""

    file: Path
    epoch: str
    state: State


def open_checkpoint(path: Path) -> Opened:
    """Read a checkpoint file, or the one that a run folder offers.

    Raises:
        CheckpointError: it is missing, damaged, or holds more than tensors.
    """
    if path.suffix == "" or path.is_dir():
        [(path, _)] = checkpoints_of([path])
    if path.name == LAST:
        content = read_last(path.parent)
        if content is None:
            raise CheckpointError(f"{path}: there is no such checkpoint file.")
        progress = content["progress"]
        return Opened(path, f"{progress['epoch']} done, {progress['step']} batches of the next", content["model"])
    named = BEST.fullmatch(path.name) or NUMBERED.fullmatch(path.name)
    best = " (best in validation)" if BEST.fullmatch(path.name) else ""
    return Opened(path, f"{named[1]}{best}" if named else "not in its name", read_state_dict(path))


def description(opened: Opened, depth: int = 1, every_entry: bool = False) -> list[str]:
    """Modules with their entries, parameters and batch-norm statistics; all shapes with ``every_entry``."""
    state = opened.state
    lines = [f"{opened.file}: {len(state)} entries, epoch {opened.epoch}", *_other_files(opened.file), ""]
    rows = [(name, *_figures(part)) for name, part in _modules(state, depth).items()]
    lines.append(text_table(("module", "entries", "parameters", "statistics"), [*rows, ("all", *_figures(state))]))
    broken = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    lines += [f"not finite: {key}" for key in broken]
    if every_entry:
        lines += ["", text_table(("entry", "shape", "type"), [(k, _shape(v), _type(v)) for k, v in state.items()])]
    return lines


def differences(first: Opened, second: Opened, renames: Mapping[str, str] | None = None, depth: int = 1) -> list[str]:
    """How two checkpoints differ: a table by module, then every differing entry.

    Args:
        renames: beginnings of names in the first -> what they are called in the second.
        depth: so many name parts make a module.
    """
    mine, theirs = _renamed(first.state, renames or {}), second.state
    rows = []
    for name in _modules({**mine, **theirs}, depth):
        kinds = [_kind(mine, theirs, key) for key in {**mine, **theirs} if _module(key, depth) == name]
        rows.append((name, *(str(kinds.count(kind)) for kind in _KINDS)))
    unequal = [key for key in {**mine, **theirs} if _kind(mine, theirs, key) != "equal"]
    lines = [f"first:  {first.file} (epoch {first.epoch})", f"second: {second.file} (epoch {second.epoch})", ""]
    lines.append(text_table(("module", *_KINDS), rows))
    return [*lines, "", *(f"{key}: {_told(mine, theirs, key)}" for key in unequal)]


def parse_renames(texts: list[str]) -> dict[str, str]:
    """``["old=new", ...]`` as a map.

    Raises:
        ConfigError: a text has no ``=``.
    """
    pairs = [text.partition("=") for text in texts]
    wrong = [old for old, equals, _ in pairs if not (old and equals)]
    if wrong:
        raise ConfigError(f"--rename: expected OLD=NEW such as encoder_m1=encoder_m2, found '{wrong[0]}'.")
    return {old: new for old, _, new in pairs}


_KINDS = ("equal", "different", "other shape", "only first", "only second")


def _kind(mine: State, theirs: State, key: str) -> str:
    if key not in theirs:
        return "only first"
    if key not in mine:
        return "only second"
    if mine[key].shape != theirs[key].shape:
        return "other shape"
    return "equal" if torch.equal(mine[key], theirs[key]) else "different"


def _told(mine: State, theirs: State, key: str) -> str:
    kind = _kind(mine, theirs, key)
    if kind == "different":
        gap = (mine[key].double() - theirs[key].double()).abs().max()
        return f"largest difference {float(gap):.3g}"
    shapes = [_shape(state[key]) for state in (mine, theirs) if key in state]
    return f"{kind}, {' and '.join(shapes)}"


def _other_files(file: Path) -> Iterator[str]:
    """Which other epochs the folder holds."""
    numbered = ((NUMBERED.fullmatch(p.name) or BEST.fullmatch(p.name), p) for p in sorted(file.parent.iterdir()))
    others = sorted((int(match[1]), path.name) for match, path in numbered if match and path.name != file.name)
    if others:
        yield f"also there: {', '.join(name for _, name in others)}"


def _modules(state: State, depth: int) -> dict[str, State]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        found.setdefault(_module(key, depth), {})[key] = value
    return dict(found)


def _module(key: str, depth: int) -> str:
    """The first name parts, the last one (weight, bias...) left out."""
    return ".".join(key.split(".")[:-1][:depth]) or key


def _figures(state: State) -> tuple[str, str, str]:
    sizes = {key: value.numel() for key, value in state.items()}
    statistics = sum(size for key, size in sizes.items() if key.endswith(STATISTICS))
    return str(len(state)), str(sum(sizes.values()) - statistics), str(statistics)


def _renamed(state: State, renames: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        old = next((old for old in renames if key.startswith(old)), "")
        renamed[renames[old] + key.removeprefix(old) if old else key] = value
    return renamed


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
