"""Check hypes files: load each, build its detector without data, and say what it is or what is wrong."""

from __future__ import annotations

import hashlib
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from opencood.config.flavor import FLAVORS
from opencood.config.loader import Hypes, load_file
from opencood.config.reader import read_document
from opencood.config.tree import lookup
from opencood.data.build import format_of
from opencood.data.perturb.settings import build_perturbations
from opencood.errors import ConfigError, OpencoodError
from opencood.experiments.build import build_from_scratch, import_plugins
from opencood.experiments.hypes_step import Stepped, step_key
from opencood.experiments.shrink import shrink
from opencood.models.unavailable import why_unavailable
from opencood.registry import REGISTRY

LOADED, BUILT, STEPPED, REFUSED, FAILED = "loaded", "built", "stepped", "refused", "failed"
T = TypeVar("T")


@dataclass(frozen=True)
class BuiltModel:
    """A built detector in figures: elements of all parameters, entries and digest of its ``state_dict``."""

    core_method: str
    parameters: int
    entries: int
    sha1: str

    def __str__(self) -> str:
        return f"{self.core_method} {self.parameters} parameters, {self.entries} entries, sha1 {self.sha1}"


@dataclass(frozen=True)
class Checked:
    """What became of one file.

    Attributes:
        outcome: ``loaded``, ``built``, ``stepped``; ``refused``: there is no detector, and a message says what is
            missing or wrong; ``failed``: a defect, a detector that is not the reference's, one that cannot take a
            step, or none where the reference builds one (unless its method is refused by name).
        group: repository, or folder, that the file is counted under.
        expected: digest that a reference gives; empty when none is known.
        step_key: files with the same one take the same step.
        dataset: format of the data.
    """

    path: Path
    outcome: str
    group: str = ""
    parser: str = ""
    flavor: str = ""
    parity: str = ""
    model: BuiltModel | None = None
    error: str = ""
    remarks: tuple[str, ...] = ()
    expected: str = ""
    stepped: Stepped | None = None
    step_key: str = ""
    dataset: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the detector is the one that the reference builds."""
        return self.model is not None and self.model.sha1 == self.expected

    def lines(self) -> list[str]:
        """One line for the file, and one for each remark."""
        facts = " ".join(word for word in (self.parser or "-", self.flavor, self.parity) if word)
        told = [str(self.model)] if self.model else []
        told += [f"one step: {self.stepped}"] if self.stepped else []
        told += [f"error: {self.error}"] if self.error else []
        remarks = (*self.remarks, *(self.stepped.remarks if self.stepped else ()))
        head = f"{self.path}: {facts} {self.outcome}" + (f": {'; '.join(told)}" if told else "")
        return [head, *(f"    warning: {remark}" for remark in remarks)]


def hypes_files(paths: Iterable[Path]) -> list[Path]:
    """All YAML files among and below the paths, sorted, without parts to inherit from (``_name.yaml``, ``_folder/``).

    Raises:
        ConfigError: a path does not exist, or there is no YAML file.
    """
    files: set[Path] = set()
    given = list(paths)
    for path in given:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder.")
        files.update([path] if path.is_file() else [p for p in path.rglob("*.y*ml") if _is_whole(p, path)])
    if not files:
        raise ConfigError(f"no YAML file below {', '.join(map(str, given))}.")
    return sorted(files)


def _is_whole(file: Path, folder: Path) -> bool:
    return not any(part.startswith("_") for part in file.relative_to(folder).parts)


def check_files(paths: Iterable[Path], build: bool = True) -> Iterator[Checked]:
    """Load (and build) one file after the other; what is wrong with one does not stop the others."""
    for path in hypes_files(paths):
        yield check_file(path, build)


def check_file(path: Path, build: bool = True, expected: str = "") -> Checked:
    """Load one file and build its detector on the meta device, where weights need neither memory nor time.

    The one slip of published files that has an obvious remedy is repaired, with a remark.

    Args:
        expected: digest of the ``state_dict`` that a reference builds from the file.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hypes, error, defect = guarded(lambda: _load(path))
        if hypes is None:
            error, by_name = _by_name(path, error)
            outcome = FAILED if defect or (expected and not by_name) else REFUSED
            return Checked(path, outcome, group_of(path), error=error, expected=expected)
        model: BuiltModel | None = None
        key: str | None = None
        if build:
            model, error, defect = guarded(lambda: build_figures(hypes))
            defect = defect or bool(error and expected and not _unavailable(hypes))
        if model is not None:
            key, error, defect = guarded(lambda: step_key(shrink(hypes)))
            if expected not in ("", model.sha1):
                error, defect = f"the reference builds another detector, sha1 {expected}", True
    outcome = (FAILED if defect else REFUSED) if error else BUILT if build else LOADED
    return Checked(
        path,
        outcome,
        group_of(path),
        _parser_of(hypes),
        hypes["flavor"],
        hypes["parity"],
        model,
        error,
        tuple(dict.fromkeys(str(warning.message) for warning in caught)),
        expected,
        step_key=key or "",
        dataset=format_of(hypes),
    )


def guarded(work: Callable[[], T]) -> tuple[T | None, str, bool]:
    """(result, error, whether the error is a defect): what one file raises must not end the check of the others."""
    try:
        return work(), "", False
    except OpencoodError as error:
        return None, str(error), False
    except Exception as error:  # noqa: BLE001  anything else is a defect of ours, and is reported as one
        last = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})", True


def group_of(path: Path) -> str:
    """The repository a file comes from: the part of its path that is named like a flavor, else its folder."""
    names = {part: part.lower().replace("-", "") for part in path.parts[:-1]}
    return next((part for part, name in names.items() if name in FLAVORS), path.parent.name or ".")


def describe_model(core_method: str, model: torch.nn.Module) -> BuiltModel:
    """Count parameters (buffers are none) and digest names and shapes of the ``state_dict``."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return BuiltModel(core_method, parameters, len(shapes), state_dict_digest(shapes))


def state_dict_digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """SHA-1 of the sorted lines ``key:d0,d1,...`` joined by a line feed, without a trailing one."""
    lines = sorted(f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()


def _load(path: Path) -> Hypes:
    """Load a file, and build what its section ``perturb`` names, which needs no data."""
    hypes = load_file(path, repair=True)
    if hypes.get("perturb"):
        import_plugins(hypes)
        for train in (True, False):
            build_perturbations(hypes["perturb"], train, seed=0)
    return hypes


def build_figures(hypes: Hypes) -> BuiltModel:
    """Build a detector on the meta device and count it.

    Raises:
        ConfigError: the configuration has no model, or a wrong one.
    """
    core_method = (hypes.get("model") or {}).get("core_method")
    if not core_method:
        raise ConfigError(
            f"{hypes.source.where('model')}: model.core_method: missing; this file describes no detector."
        )
    with torch.device("meta"):
        return describe_model(core_method, build_from_scratch(hypes))


def _by_name(path: Path, error: str) -> tuple[str, bool]:
    """An error of loading, after the refusal of a method that could not be built anyway; whether it is refused so."""
    document, _, _ = guarded(lambda: read_document(path))
    reason = _unavailable(document.data) if document else ""
    return (f"{reason} {error}", True) if reason else (error, False)


def _unavailable(hypes: Mapping[str, Any]) -> str:
    """Which published method, or encoder, of a file is refused by its name; empty without one."""
    args = lookup(hypes, "model.args")
    parts = args.values() if isinstance(args, Mapping) else ()
    encoders = [part.get("core_method") for part in parts if isinstance(part, Mapping)]
    named = [("model", lookup(hypes, "model.core_method")), *(("encoder", name) for name in encoders)]
    for kind, name in named:
        reason = why_unavailable(name) if isinstance(name, str) and not REGISTRY.has(kind, name) else None
        if reason is not None:
            return f"{kind} '{name}' is published, but {reason}."
    return ""


def _parser_of(hypes: Mapping[str, Any]) -> str:
    parser = hypes.get("yaml_parser")
    if parser is not None:
        return parser if isinstance(parser, str) else "+".join(parser)
    by_modality = hypes.get("yaml_parsers") or {}
    return ",".join(f"{modality}={name}" for modality, name in by_modality.items())
