"""What a training run needs to know besides its objects: the checked ``train_params`` and a few switches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from opencood.config.flavor import quirk
from opencood.config.tree import lookup
from opencood.errors import ConfigError, nearest

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
CAPS = {"OPENCOOD_MAX_EPOCHS": ("epochs",), "OPENCOOD_MAX_BATCHES": ("max_train_batches", "max_val_batches")}
READ_HERE = {
    "batch_size", "epoches", "eval_freq", "save_freq", "single_weight", "grad_clip", "num_workers", "max_train_batches",
    "max_val_batches", "last_every_minutes", "last_every_steps", "print_every", "compile", "data_balance",
    "label_fraction", "label_unit", "label_seed",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Settings of one run; epochs are 0-based everywhere but in file names.

    Args:
        epochs, batch_size (per process), save_every, validate_every: the required ``train_params``.
        seed: order of the data and every random draw follow from (seed, epoch, step, rank).
        workers: loader processes; the result does not depend on it.
        single_weight: weight of the per-agent supervision.
        grad_clip: largest L2 norm of the gradient, None for no clipping.
        precision: autocast type of the forward pass, None for full precision.
        compile: the dense part of the detector is compiled.
        max_train_batches, max_val_batches: shorten an epoch.
        last_every_minutes, last_every_steps: how often ``last.ckpt`` is written inside an epoch.
        print_every: write every n-th iteration to stdout; None: every one, unless stdout is a terminal (it has a
            progress bar).
        data_balance: backends with a large validation loss are drawn more often, see ``Backends``.
        published_resume: a resume from a plain ``.pth`` shifts the schedule by one epoch, as published.
        schedule_before_epoch: the schedule is stepped before an epoch (CooPre).
        schedule_per_step: the rate changes with every step instead of every epoch.
        shuffle_validation: validation is shuffled and drops the last incomplete batch, as published.
    """

    epochs: int
    batch_size: int = 1
    save_every: int = 1
    validate_every: int = 1
    seed: int = 0
    workers: int = 0
    single_weight: float = 1.0
    grad_clip: float | None = None
    precision: torch.dtype | None = None
    compile: bool = False
    data_balance: bool = False
    max_train_batches: int | None = None
    max_val_batches: int | None = None
    last_every_minutes: float | None = 10.0
    last_every_steps: int | None = None
    print_every: int | None = None
    published_resume: bool = False
    schedule_before_epoch: bool = False
    schedule_per_step: bool = False
    shuffle_validation: bool = False


def settings_from(hypes: Mapping[str, Any], **overrides: Any) -> Settings:
    """Read ``train_params`` and the quirk switches of a configuration; ``overrides`` that are not None win.

    Raises:
        ConfigError: a required key is missing, or a value is not a positive number.
    """
    section = hypes.get("train_params")
    if not isinstance(section, Mapping):
        raise ConfigError("train_params: the section is missing. It needs batch_size, epoches, eval_freq, save_freq.")
    read = {
        "epochs": _whole(section, "epoches", required=True),
        "batch_size": _whole(section, "batch_size", required=True),
        "save_every": _whole(section, "save_freq", required=True),
        "validate_every": _whole(section, "eval_freq", required=True),
        "seed": _whole(hypes, "seed", where="", least=0),
        "workers": _whole(section, "num_workers", least=0, default=min(4, os.cpu_count() or 1)),
        "single_weight": _positive(section, "single_weight"),
        "grad_clip": _positive(section, "grad_clip"),
        "max_train_batches": _whole(section, "max_train_batches"),
        "max_val_batches": _whole(section, "max_val_batches"),
        "last_every_minutes": _positive(section, "last_every_minutes"),
        "last_every_steps": _whole(section, "last_every_steps"),
        "print_every": _whole(section, "print_every"),
        "compile": _switch(section, "compile"),
        "data_balance": _switch(section, "data_balance"),
        "published_resume": bool(quirk(hypes, "resume_lr_offset")),
        "schedule_before_epoch": bool(quirk(hypes, "scheduler_before_epoch")),
        "schedule_per_step": lookup(hypes, "lr_scheduler.per") == "step",
        "shuffle_validation": bool(quirk(hypes, "validation_shuffled_drop_last")),
    }
    read |= _caps(read)
    given = {**read, **{key: value for key, value in overrides.items() if value is not None}}
    return Settings(**{key: value for key, value in given.items() if value is not None})


def _caps(read: Mapping[str, Any]) -> dict[str, int]:
    """What the environment allows at most: ``OPENCOOD_MAX_EPOCHS``, ``OPENCOOD_MAX_BATCHES`` (of each epoch).

    For trying command lines as they are printed somewhere; the schedule and the stored configuration stay as they are.

    Raises:
        ConfigError: a variable is not a whole number of at least 1.
    """
    capped: dict[str, int] = {}
    for variable, keys in CAPS.items():
        text = os.environ.get(variable)
        if not text:
            continue
        if not text.isdecimal() or int(text) < 1:
            raise ConfigError(f"{variable}={text}: expected a whole number of at least 1, or unset the variable.")
        capped |= {key: min(int(text), read[key]) if read[key] is not None else int(text) for key in keys}
    return capped


def _whole(
    section: Mapping[str, Any],
    key: str,
    required: bool = False,
    least: int = 1,
    default: int | None = None,
    where: str = "train_params.",
) -> int | None:
    value = section.get(key, default)
    if value is None and not required:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        found = f"found {value!r}" if key in section else "the key is missing." + nearest(key, set(section) - READ_HERE)
        raise ConfigError(f"{where}{key}: expected a whole number of at least {least}, {found}")
    return value


def _switch(section: Mapping[str, Any], key: str) -> bool:
    value = section.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"train_params.{key}: expected true or false, found {value!r}.")
    return value


def _positive(section: Mapping[str, Any], key: str) -> float | None:
    value = section.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigError(f"train_params.{key}: expected a number of at least 0, found {value!r}.")
    return float(value)
