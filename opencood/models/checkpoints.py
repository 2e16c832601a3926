"""Reading and writing weights: what fits is loaded, what does not is reported, another model's file is refused."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from opencood.errors import CheckpointError, StorageError
from opencood.models.sparse.layers import in_layout_of

# Names under which other tools wrap a state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model")
# Two families call the same part by two names.
ALIASES = (("pyramid_backbone.", "fusion_backbone."), ("fusion_backbone.", "pyramid_backbone."))
BEST = re.compile(r"net_epoch_bestval_at(\d+)\.pth")
NUMBERED = re.compile(r"net_epoch(\d+)\.pth")
SHOWN = 5
# Below this share of common entries, of both sides, a checkpoint is another model's.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry.

    Attributes:
        missing: entries of the model that the file does not have; they keep their values.
        unexpected: entries of the file that the model does not have.
        misshapen: ``name: file shape, model shape`` of entries that do not fit.
        loaded: entries that were loaded.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    loaded: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether model and file have exactly the same entries."""
        return not (self.missing or self.unexpected or self.misshapen)

    def lines(self) -> list[str]:
        """The four counts, then one line per kind of difference: names when they are few, else modules with counts."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "misshapen": self.misshapen}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in {"loaded": self.loaded, **kinds}.items())
        return [counts, *(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)]

    def __str__(self) -> str:
        return "; ".join(self.lines())


def load_checkpoint(model: nn.Module, path: str | os.PathLike[str], strict_shapes: bool = True) -> LoadReport:
    """Load the weights of a file into a model and say what did not fit.

    Args:
        strict_shapes: entries of another shape are an error; otherwise they are left out and reported.

    Raises:
        CheckpointError: the file is missing, unreadable or no state dict, holds NaN, or belongs to another model.
    """
    state = in_layout_of(model, _adapted(read_state_dict(path), model))
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    report = LoadReport(
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
        misshapen=tuple(
            f"{key}: file {list(value.shape)}, model {list(own[key].shape)}"
            for key, value in state.items()
            if key in own and key not in fitting
        ),
        loaded=tuple(fitting),
    )
    _refuse_other_model(path, report, len(own), len(state), strict_shapes)
    refuse_nan(path, fitting)
    model.load_state_dict(fitting, strict=False)
    return report


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The entries of a checkpoint file on the CPU, without wrapper and without ``module.``; no code in it is run.

    Raises:
        CheckpointError: the file is missing, damaged, or holds no state dict.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {_damage(Path(path), error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: holds no state dict (names with tensors).")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _damage(path: Path, error: Exception) -> str:
    """What is wrong with a file that torch does not read, and what to do about it; torch's own words are misleading."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}."
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "it is empty; copy it again."
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer instead of the file; get the content with: git lfs pull."
    if start.lstrip()[:1] == b"<":
        return "it is a web page instead of the file; download it again."
    if start.startswith(b"PK") and isinstance(error, RuntimeError):
        return "it is truncated or damaged; copy it again, or take another checkpoint."
    return "it is no checkpoint, or holds more than plain tensors (a whole pickled model); save its state dict alone."


def write_state_dict(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write a plain state dict so that the file is either the old or the new one, never half of it.

    Raises:
        StorageError: it could not be written.
    """
    temporary = Path(f"{os.fspath(path)}.tmp{os.getpid()}")
    try:
        torch.save(dict(state), temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: could not be written ({error}); is the disk full or the folder read-only?"
        ) from error


def find_checkpoint(run_dir: str | os.PathLike[str], epoch: int | None = None) -> tuple[Path, int] | None:
    """The checkpoint a run folder offers, and its epoch; None when it has none (spec tools.md 1).

    That of ``epoch`` where one is asked for; else the best one by validation is preferred (the newest, with a warning,
    when there are several), then the latest epoch.

    Raises:
        CheckpointError: the folder does not exist, or has none of that epoch.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such run folder.")
    if epoch is not None:
        return _of_epoch(folder, epoch), epoch
    best = _numbered(folder, BEST)
    if len(best) > 1:
        warnings.warn(f"{folder}: {len(best)} best checkpoints; {best[-1][1].name} is taken.", stacklevel=2)
    choice = best or _numbered(folder, NUMBERED)
    return (choice[-1][1], choice[-1][0]) if choice else None


def _of_epoch(folder: Path, epoch: int) -> Path:
    there = dict(_numbered(folder, BEST) + _numbered(folder, NUMBERED))
    if epoch not in there:
        raise CheckpointError(
            f"{folder}: holds no checkpoint of epoch {epoch}; it has {', '.join(map(str, sorted(there))) or 'none'}."
        )
    return there[epoch]


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    found = ((pattern.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _adapted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The entries under the names of this model's family."""
    own = model.state_dict()
    for theirs, ours in ALIASES:
        foreign = any(key.startswith(theirs) for key in state) and not any(key.startswith(theirs) for key in own)
        if foreign and any(key.startswith(ours) for key in own):
            return {_swapped(key, theirs, ours): value for key, value in state.items()}
    return state


def _swapped(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(old) else key


def _refuse_other_model(
    path: str | os.PathLike[str], report: LoadReport, model_size: int, file_size: int, strict_shapes: bool
) -> None:
    if strict_shapes and report.misshapen:
        raise CheckpointError(
            f"{path}: {len(report.misshapen)} entries have another shape in this model: {_some(report.misshapen)}. "
            "The file was made with other widths, anchors or voxel sizes; use the config.yaml of its own run folder."
        )
    common = len(report.loaded)
    if common >= LEAST_SHARE * model_size or (common and common >= LEAST_SHARE * file_size):
        return
    raise CheckpointError(
        f"{path}: belongs to another model: {common} of the file's {file_size} entries fit this model's {model_size}. "
        f"Missing: {_some(report.missing)}. Unknown: {_some(report.unexpected)}. {_likely_cause(report)}"
    )


def refuse_nan(path: str | os.PathLike[str], state: Mapping[str, Tensor]) -> None:
    """A training that diverged leaves weights with which nothing is ever detected."""
    broken = [key for key, value in state.items() if value.is_floating_point() and bool(value.isnan().any())]
    if broken:
        raise CheckpointError(
            f"{path}: {len(broken)} entries hold NaN: {_some(broken)}. The training diverged or the file is damaged; "
            "take an earlier one."
        )


def _likely_cause(report: LoadReport) -> str:
    theirs, ours = _tops(report.unexpected), _tops(report.missing)
    if _by_modality(ours) and "pillar_vfe" in theirs:
        return "The file is of a homogeneous model (pillar_vfe at the top), this model has modalities (encoder_m1)."
    if _by_modality(theirs) and "pillar_vfe" in ours:
        return "The file is of a model with modalities (encoder_m1), this model is homogeneous (pillar_vfe at the top)."
    if _by_modality(theirs) and _by_modality(ours):
        names = [", ".join(sorted(_by_modality(tops))) for tops in (theirs, ours)]
        return f"The file has {names[0]}, the model {names[1]}."
    return "Check that the run folder's config.yaml and its checkpoint belong together."


def _tops(keys: Sequence[str]) -> set[str]:
    return {key.partition(".")[0] for key in keys}


def _by_modality(tops: set[str]) -> set[str]:
    return {top for top in tops if re.search(r"_m\d+$", top)}


def _listed(names: Sequence[str]) -> str:
    if len(names) <= SHOWN:
        return ", ".join(names)
    of_module = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{module} ({count})" for module, count in of_module.items())


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
