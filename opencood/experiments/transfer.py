"""A training that starts from another one's checkpoint, or has few labels (spec coopre.md 7 and 12)."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from opencood.config.flavor import quirk
from opencood.config.loader import Hypes
from opencood.config.tree import given, section
from opencood.errors import ConfigError
from opencood.models.checkpoints import find_checkpoint
from opencood.models.initial import initialise
from opencood.training.checkpoints import LAST


def with_start(hypes: Hypes, checkpoint: str | None, label_fraction: float | None) -> Hypes:
    """The configuration with another ``init_from.path`` and ``train_params.label_fraction``, where they are given."""
    changed = dict(hypes)
    if checkpoint is not None:
        changed["init_from"] = {**section(hypes, "init_from"), "path": checkpoint}
    if label_fraction is not None:
        changed["train_params"] = {**section(hypes, "train_params"), "label_fraction": label_fraction}
    return hypes if changed == dict(hypes) else hypes.replaced(changed)


def require_start(hypes: Hypes) -> None:
    """Refuse a configuration without ``init_from``.

    Raises:
        ConfigError: there is none.
    """
    if not section(hypes, "init_from"):
        raise ConfigError("init_from: missing; it names the checkpoint to start from. Or give --pretrained_model_dir.")


def has_begun(run_dir: Path) -> bool:
    """Whether a run folder holds weights, which then count instead of those of ``init_from``."""
    return (run_dir / LAST).is_file() or find_checkpoint(run_dir) is not None


def start_from(model: nn.Module, hypes: Hypes) -> None:
    """Give a model the weights that ``init_from`` names, if it names any.

    Raises:
        CheckpointError: the checkpoint is missing or does not fit.
        ConfigError: the section is incomplete.
    """
    wanted = section(hypes, "init_from")
    if not wanted:
        return
    path = wanted.get("path")
    if not isinstance(path, str):
        raise ConfigError(f"init_from.path: expected a checkpoint file or a run folder, found {path!r}.")
    idle = bool(quirk(hypes, "pretraining_copies_idle_backbone"))
    initialise(model, path, given(wanted, "modules"), bool(wanted.get("strict", True)), idle)
