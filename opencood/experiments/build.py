"""The one place that turns hypes into objects: data sets, detectors, losses.

A hypes file may name the user's own modules under ``plugins``; they are imported first, so that what they register can
be built.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from opencood.config.loader import Hypes
from opencood.config.pretrain import is_pretraining
from opencood.config.tree import given, section
from opencood.data import build as data_build
from opencood.data.fraction import SEED, ChosenFrames, chosen_frames
from opencood.errors import ConfigError
from opencood.losses import build as losses_build
from opencood.models import build as models_build


def build_dataset(hypes: Hypes, train: bool, visualize: bool = False, **options: Any) -> Any:
    """Build the data set of one split; ``train`` False opens ``validate_dir`` (see ``opencood.data.build``)."""
    import_plugins(hypes)
    return data_build.build_dataset(hypes, train, visualize, **options)


def build_training_set(hypes: Hypes) -> Any:
    """Build the training set, or the share of it that ``train_params.label_fraction`` leaves.

    Raises:
        ConfigError: the share is none.
    """
    dataset = build_dataset(hypes, train=True)
    params = section(hypes, "train_params")
    fraction = given(params, "label_fraction")
    if fraction is None or is_pretraining(hypes):  # pretraining needs no label, so it may see every frame
        return dataset
    seed, unit = params.get("label_seed", SEED), params.get("label_unit", "frame")
    return ChosenFrames(dataset, chosen_frames(dataset, float(fraction), int(seed), str(unit)))


def build_model(hypes: Hypes, train_flag: bool = True) -> torch.nn.Module:
    """Build the detector of ``model.core_method``, which may be a class of a plugin (see ``opencood.models.build``)."""
    return models_build.build_model(hypes, train_flag, modules=import_plugins(hypes))


def build_from_scratch(hypes: Hypes) -> torch.nn.Module:
    """The same without need of checkpoints of earlier stages: to look at a detector, or to try whether it runs."""
    return build_model(hypes.replaced({**hypes, "missing_checkpoints": "scratch"}))


def build_loss(hypes: Hypes) -> Any:
    """Build the criterion of ``loss.core_method`` (see ``opencood.losses.build``)."""
    import_plugins(hypes)
    return losses_build.build_loss(hypes)


def import_plugins(hypes: Hypes) -> list[ModuleType]:
    """Import the Python files listed under ``plugins``, each once per process.

    A relative path is looked up beside the hypes file, then in the working directory.

    Raises:
        ConfigError: a file is missing, or importing it fails.
    """
    listed = hypes.get("plugins") or []
    return [_import_plugin(_locate(str(entry), hypes)) for entry in ([listed] if isinstance(listed, str) else listed)]


def _locate(entry: str, hypes: Hypes) -> Path:
    beside = Path(getattr(hypes, "path", None) or ".").parent
    candidates = [beside / entry, Path(entry)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise ConfigError(f"plugins: no file '{entry}' (looked for {tried}). Give a path relative to the hypes file.")


def _import_plugin(path: Path) -> ModuleType:
    digest = hashlib.sha1(str(path).encode()).hexdigest()[:8]
    name = f"opencood_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugins: '{path}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise ConfigError(f"plugins: importing '{path}' failed: {error}") from error
    return module
