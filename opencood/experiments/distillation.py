"""The teacher of a distillation: another detector, frozen, that sees the same batch (tools.md 2, ``train_w_kd``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from opencood.config.loader import Hypes
from opencood.errors import ConfigError
from opencood.experiments.build import build_model
from opencood.experiments.folders import checkpoints_of
from opencood.models.checkpoints import load_checkpoint

log = logging.getLogger(__name__)


def has_teacher(hypes: Mapping[str, Any]) -> bool:
    """Whether the configuration names a teacher; ``kd_flag: true`` alone only asks for the samples of one."""
    return isinstance(hypes.get("kd_flag"), Mapping)


def build_teacher(hypes: Hypes, device: torch.device) -> nn.Module | None:
    """Build the detector of ``kd_flag`` with its weights, frozen and in eval mode; None without one.

    ``teacher_path`` is a checkpoint or a run folder.

    Raises:
        ConfigError: the model is unknown or its arguments are wrong, or a key is missing.
        CheckpointError: there are no such weights, or they belong to another model.
    """
    teacher = untrained_teacher(hypes)
    if teacher is None:
        return None
    path = Path(str(_needed(hypes, "teacher_path")))
    if path.suffix == "" or path.is_dir():
        [(path, _)] = checkpoints_of([path])
    log.info("teacher %s: %s", path, load_checkpoint(teacher, path))
    return teacher.to(device)


def untrained_teacher(hypes: Hypes) -> nn.Module | None:
    """Build the detector of ``kd_flag`` without weights, frozen and in eval mode; None without one.

    Raises:
        ConfigError: the model is unknown or its arguments are wrong, or a key is missing.
    """
    if not has_teacher(hypes):
        return None
    model = {"core_method": _needed(hypes, "teacher_model"), "args": _needed(hypes, "teacher_model_config")}
    return build_model(hypes.replaced({**hypes, "model": model})).eval().requires_grad_(False)


def require_teacher(hypes: Hypes) -> None:
    """Refuse a distillation without a teacher.

    Raises:
        ConfigError: ``kd_flag`` names none.
    """
    if not has_teacher(hypes):
        raise ConfigError(
            f"{hypes.source.where('kd_flag')}: kd_flag: no teacher. Distillation needs kd_flag: {{teacher_model, "
            "teacher_model_config, teacher_path}; to train without one use train.py."
        )


def _needed(hypes: Hypes, key: str) -> Any:
    flag = hypes["kd_flag"]
    if key not in flag:
        raise ConfigError(f"{hypes.source.where('kd_flag')}: kd_flag.{key}: missing.")
    return flag[key]
