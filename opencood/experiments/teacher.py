"""The teacher of a distillation: another detector, frozen, whose outputs are added to the student's (``kd_flag``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from opencood.config.loader import Hypes
from opencood.config.tree import section, with_value
from opencood.errors import ConfigError
from opencood.experiments.build import build_model


def build_teacher(hypes: Hypes) -> nn.Module | None:
    """The frozen detector ``kd_flag.teacher_model`` in evaluation mode, without weights; None without a teacher.

    Raises:
        ConfigError: ``kd_flag`` is a map without ``teacher_model`` or ``teacher_model_config``.
    """
    wanted = section(hypes, "kd_flag")
    if not wanted:
        return None
    for key in ("teacher_model", "teacher_model_config"):
        if key not in wanted:
            raise ConfigError(f"{hypes.source.where('kd_flag')}: kd_flag.{key}: missing.")
    model = {"core_method": wanted["teacher_model"], "args": wanted["teacher_model_config"]}
    return build_model(hypes.replaced(with_value(hypes, "model", model))).eval().requires_grad_(False)


def with_teacher(outputs: Mapping[str, Any], teacher: nn.Module | None, ego: Mapping[str, Any]) -> Mapping[str, Any]:
    """A student's outputs and, where there is a teacher, the teacher's of the same batch."""
    if teacher is None:
        return outputs
    with torch.no_grad():
        return {**teacher(ego), **outputs}
