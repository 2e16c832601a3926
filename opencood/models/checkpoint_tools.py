"""Editing state dicts: merging, renaming and taking parts (spec models.md 6.2, tools.md 4)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from opencood.errors import CheckpointError, StorageError, nearest
from opencood.models.checkpoints import read_state_dict, write_state_dict
from opencood.models.renaming import renamed

Value = TypeVar("Value")

# Parts of a late-fusion detector that have no place in a collaborative one.
LATE_ONLY = ("layers_m", "head_m", "shrink_conv_m")
WILDCARD = "*"
OLD_VERSION = ".oldversion"
# Names of an early version of the aligners, replaced in this order.
OLD_NAMES = (("model.model", "channel_align.model"), ("model.warpnet", "warpnet"))
# Parts of the ResNet trunk of modality m4 that no detector uses.
UNUSED_TRUNK = tuple(f"encoder_m4.camencode.{part}" for part in ("trunk", "final_conv", "layer3"))
HEADS = ("reg_head", "cls_head", "dir_head")


def merge_state_dicts(first: Mapping[str, Value], second: Mapping[str, Value]) -> dict[str, Value]:
    """``first`` without what only late fusion uses, then every entry of ``second``, which overrides."""
    kept = {key: value for key, value in first.items() if not is_late_only(key)}
    return {**kept, **second}


def is_late_only(key: str) -> bool:
    """Whether an entry belongs to a part that only late fusion has."""
    return any(mark in key for mark in LATE_ONLY)


def conflicts(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Names of the entries that both have, with different values or shapes."""
    return [key for key, value in second.items() if key in first and not torch.equal(first[key], value)]


def is_below(key: str, prefix: str) -> bool:
    """Whether ``prefix`` names the entry or a module around it: ``encoder_m1`` is not around ``encoder_m10.weight``."""
    return key == prefix or key.startswith(f"{prefix}.")


def without_parts(state: Mapping[str, Value], parts: Iterable[str]) -> dict[str, Value]:
    """The entries that lie in none of the named modules."""
    named = tuple(parts)
    return {key: value for key, value in state.items() if not any(is_below(key, part) for part in named)}


def parts_only(state: Mapping[str, Value], parts: Iterable[str]) -> dict[str, Value]:
    """The entries of the named modules.

    Raises:
        CheckpointError: there is no such module.
    """
    named = tuple(parts)
    for part in named:
        if not any(is_below(key, part) for key in state):
            raise CheckpointError(f"there is no module '{part}'.{nearest(part, {k.partition('.')[0] for k in state})}")
    return {key: value for key, value in state.items() if any(is_below(key, part) for part in named)}


def with_new_names(state: Mapping[str, Value]) -> dict[str, Value]:
    """The entries of an early version under the names of today (``rename_to_new_version``)."""
    named = {}
    for key, value in state.items():
        for old, new in OLD_NAMES:
            key = key.replace(old, new)
        named[key] = value
    return named


def with_head_suffix(state: Mapping[str, Value], suffix: str) -> dict[str, Value]:
    """The entries with ``_suffix`` behind the names of the three heads (``add_suffix_to_keys_save``)."""
    named = {}
    for key, value in state.items():
        for head in HEADS:
            key = key.replace(f"{head}.", f"{head}_{suffix}.")
        named[key] = value
    return named


def as_type(state: Mapping[str, Value], old: str, new: str) -> dict[str, Value]:
    """The entries of a detector of one type as those of type ``new``, fusion and heads included.

    Parts ``<part>_<old>`` become ``<part>_<new>``; ``fusion_net`` and the heads, which have no type, get ``_<new>``.

    Raises:
        CheckpointError: nothing in it is of type ``old``.
    """
    if not any(key.partition(".")[0].endswith(f"_{old}") for key in state):
        raise CheckpointError(f"there is no part of type '{old}', such as encoder_{old}.")
    renamed = {}
    for key, value in state.items():
        part, dot, rest = key.partition(".")
        if part in ("fusion_net", *HEADS):
            part = f"{part}_{new}"
        elif part.endswith(f"_{old}"):
            part = f"{part.removesuffix(f'_{old}')}_{new}"
        renamed[part + dot + rest] = value
    return renamed


def rewrite(path: str | os.PathLike[str], state: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint; a file that was there stays beside it as ``<name>.oldversion``.

    Raises:
        StorageError: it could not be written; the file that was there is untouched.
    """
    target = Path(path)
    if target.is_file():
        keep(target, target.with_name(target.name + OLD_VERSION))
    write_state_dict(state, target)
    return target


def keep(path: Path, copy: Path) -> None:
    """Copy a file, whole or not at all.

    Raises:
        StorageError: it could not be written.
    """
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.part")
    try:
        shutil.copy2(path, partial)
        os.replace(partial, copy)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{copy}: cannot be written ({error.strerror}). Free some space.") from error


def rename_keys(state: Mapping[str, Value], rules: Mapping[str, str]) -> dict[str, Value]:
    """Apply rules old -> new in order.

    A trailing ``*`` of old matches by prefix, and every occurrence of that prefix in the key is replaced; an empty new
    name deletes. Renamed entries move to the end.

    Raises:
        CheckpointError: a rule without ``*`` names a key that is not there.
    """
    named = dict(state)
    for old, new in rules.items():
        if not old.endswith(WILDCARD) and old not in named:
            raise CheckpointError(f"rename: there is no key '{old}'.{nearest(old, named)}")
        prefix, replacement = old.removesuffix(WILDCARD), new.removesuffix(WILDCARD)
        hits = [key for key in named if key == old or (old.endswith(WILDCARD) and key.startswith(prefix))]
        for key in hits:
            value = named.pop(key)
            if new:
                named[key.replace(prefix, replacement)] = value
    return named


def rename_model_dict_keys(pretrained_dict_path: str | os.PathLike[str], rename_dict: Mapping[str, str] | str) -> None:
    """Rename the keys of a checkpoint file in place, by the rules of :func:`rename_keys` or by ready ones.

    The file as it was stays beside it, with ``_before_rename`` in its name.

    Args:
        rename_dict: rules old -> new, or a direction: ``homogeneous->m1``, ``m1->homogeneous``, ``m1->opencood`` (see
            ``renaming``).

    Raises:
        CheckpointError: the file is no checkpoint, or a rule does not fit it.
        ConfigError: unknown direction.
    """
    path = Path(pretrained_dict_path)
    state = read_state_dict(path)
    changed = renamed(state, rename_dict) if isinstance(rename_dict, str) else rename_keys(state, rename_dict)
    keep(path, path.with_name(f"{path.stem}_before_rename{path.suffix}"))
    write_state_dict(changed, path)
