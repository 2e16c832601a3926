"""From a hypes mapping to a model."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import nn

from opencood.errors import ConfigError
from opencood.registry import REGISTRY


def build_model(hypes: Mapping[str, Any], train_flag: bool = True) -> nn.Module:
    """Build ``model.core_method`` with ``model.args``.

    A name the registry does not know is looked up as the module ``opencood.models.<name>``, in which the class has the
    same name without underscores, whatever its case (spec config.md), and takes ``model.args``.

    Args:
        train_flag: what CodeAlign's models are told: whether the model is built for training.

    Raises:
        ConfigError: the section, the name or an argument is missing or wrong; the message names the key.
    """
    section = hypes.get("model")
    if not isinstance(section, Mapping) or "core_method" not in section:
        raise ConfigError(
            "model: this configuration has no model section with a core_method, so there is nothing to build."
        )
    name = str(section["core_method"])
    args = section.get("args") or {}
    if not isinstance(args, Mapping):
        raise ConfigError(f"model.args: a mapping is expected, not {type(args).__name__}.")
    if not REGISTRY.has("model", name) and (found := _class_of_module(name)) is not None:
        return found(args)
    _check_anchors(hypes, args)
    return REGISTRY.build("model", name, args, where="model.args", hypes=hypes, train_flag=train_flag)


def _class_of_module(name: str) -> type[nn.Module] | None:
    full = f"opencood.models.{name}"
    if not name.isidentifier() or importlib.util.find_spec(full) is None:
        return None
    wanted = name.replace("_", "").lower()
    found = [value for key, value in vars(importlib.import_module(full)).items() if key.lower() == wanted]
    return found[0] if found and isinstance(found[0], type) and issubclass(found[0], nn.Module) else None


def _check_anchors(hypes: Mapping[str, Any], args: Mapping[str, Any]) -> None:
    """The heads must have as many anchors per cell as the post-processing places."""
    postprocess = hypes.get("postprocess")
    anchors = postprocess.get("anchor_args") if isinstance(postprocess, Mapping) else None
    yaws = anchors.get("r") if isinstance(anchors, Mapping) else None
    heads = args.get("anchor_number")
    if isinstance(yaws, list) and isinstance(heads, int) and "num_class" not in args and len(yaws) != heads:
        raise ConfigError(
            f"model.args.anchor_number is {heads}, but postprocess.anchor_args.r places {len(yaws)} anchors per cell "
            f"({yaws}); make them equal."
        )
