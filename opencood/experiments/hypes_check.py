"""Load every hypes file below some paths, and build its detector when asked."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opencood.config.loader import Hypes, load_file
from opencood.errors import ConfigError, OpencoodError

if TYPE_CHECKING:
    import torch


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
    """What became of one file."""

    path: Path
    parser: str = ""
    flavor: str = ""
    parity: str = ""
    model: BuiltModel | None = None
    error: str = ""
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line for the file, and one for each remark."""
        facts = " ".join(word for word in (self.parser or "-", self.flavor, self.parity) if word)
        outcome = f"error: {self.error}" if self.error else "ok" + (f": {self.model}" if self.model else "")
        return [f"{self.path}: {facts} {outcome}", *(f"    warning: {remark}" for remark in self.remarks)]


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


def check_files(paths: Iterable[Path], build: bool = False) -> Iterator[Checked]:
    """Load (and build) one file after the other; what is wrong with one does not stop the others."""
    for path in hypes_files(paths):
        yield check_file(path, build)


def check_file(path: Path, build: bool = False) -> Checked:
    """Load one file, and build its detector when asked."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            hypes = load_file(path)
            _check_perturbations(hypes)
        except OpencoodError as error:
            return Checked(path, error=str(error))
        model, error_text = _try_build(hypes) if build else (None, "")
    remarks = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return Checked(path, _parser_of(hypes), hypes["flavor"], hypes["parity"], model, error_text, remarks)


def describe_model(core_method: str, model: torch.nn.Module) -> BuiltModel:
    """Count parameters (buffers are none) and digest names and shapes of the ``state_dict``."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return BuiltModel(core_method, parameters, len(shapes), state_dict_digest(shapes))


def state_dict_digest(shapes: dict[str, tuple[int, ...]]) -> str:
    """SHA-1 of the sorted lines ``key:d0,d1,...`` joined by a line feed, without a trailing one."""
    lines = sorted(f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()


def _check_perturbations(hypes: Hypes) -> None:
    """Build what the section ``perturb`` names, which needs no data."""
    if not hypes.get("perturb"):
        return
    from opencood.data.perturb.settings import build_perturbations
    from opencood.experiments.build import import_plugins

    import_plugins(hypes)
    for train in (True, False):
        build_perturbations(hypes["perturb"], train, seed=0)


def _try_build(hypes: Hypes) -> tuple[BuiltModel | None, str]:
    from opencood.experiments.build import build_model

    core_method = (hypes.get("model") or {}).get("core_method")
    if not core_method:
        return None, f"{hypes.source.where('model')}: model.core_method: missing; this file describes no detector."
    try:
        return describe_model(core_method, build_model(hypes)), ""
    except OpencoodError as error:
        return None, str(error)


def _parser_of(hypes: dict[str, Any]) -> str:
    parser = hypes.get("yaml_parser")
    if parser is not None:
        return parser if isinstance(parser, str) else "+".join(parser)
    by_modality = hypes.get("yaml_parsers") or {}
    return ",".join(f"{modality}={name}" for modality, name in by_modality.items())
