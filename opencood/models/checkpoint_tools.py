"""Editing state dicts: merging and renaming (spec models.md 6.2)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from opencood.errors import CheckpointError, nearest
from opencood.models.checkpoints import read_state_dict, write_state_dict

Value = TypeVar("Value")

# Parts of a late-fusion detector that have no place in a collaborative one.
LATE_ONLY = ("layers_m", "head_m", "shrink_conv_m")
WILDCARD = "*"


def merge_state_dicts(first: Mapping[str, Value], second: Mapping[str, Value]) -> dict[str, Value]:
    """``first`` without what only late fusion uses, then every entry of ``second``, which overrides."""
    kept = {key: value for key, value in first.items() if not any(mark in key for mark in LATE_ONLY)}
    return {**kept, **second}


def rename_keys(state: Mapping[str, Value], rules: Mapping[str, str]) -> dict[str, Value]:
    """Apply rules old -> new in order.

    A trailing ``*`` of old matches by prefix, and every occurrence of that prefix in the key is replaced; an empty new
    name deletes. Renamed entries move to the end.

    Raises:
        CheckpointError: a rule without ``*`` names a key that is not there.
    """
    renamed = dict(state)
    for old, new in rules.items():
        if not old.endswith(WILDCARD) and old not in renamed:
            raise CheckpointError(f"rename: there is no key '{old}'.{nearest(old, renamed)}")
        prefix, replacement = old.removesuffix(WILDCARD), new.removesuffix(WILDCARD)
        hits = [key for key in renamed if key == old or (old.endswith(WILDCARD) and key.startswith(prefix))]
        for key in hits:
            value = renamed.pop(key)
            if new:
                renamed[key.replace(prefix, replacement)] = value
    return renamed


def rename_model_dict_keys(pretrained_dict_path: str | os.PathLike[str], rename_dict: Mapping[str, str]) -> None:
    """Rename the keys of a checkpoint file in place, by the rules of :func:`rename_keys`.

    The file as it was stays beside it, with ``_before_rename`` in its name.

    Raises:
        CheckpointError: the file is no checkpoint, or a rule does not fit it.
    """
    path = Path(pretrained_dict_path)
    renamed = rename_keys(read_state_dict(path), rename_dict)
    shutil.copy2(path, path.with_name(f"{path.stem}_before_rename{path.suffix}"))
    write_state_dict(renamed, path)
