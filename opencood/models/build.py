"""From a hypes mapping to a model."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from torch import nn

from opencood.config.kinds import BOUND, INT, MAP, RANGE, VOXEL, Kind
from opencood.config.tree import is_none, lookup, section
from opencood.errors import ConfigError
from opencood.models.unavailable import why_unavailable
from opencood.registry import REGISTRY

# What keys below model.args hold, by the end of their path. Not used (null, the text None, false) is always right.
_NOT_USED = Kind("nothing", lambda value: is_none(value) or value is False)
_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"model\.args\.m\d+", MAP),
    (r".*\.voxel_size", VOXEL | _NOT_USED),
    (r".*\.lidar_range", RANGE | _NOT_USED),
    (r".*\.[xyz]bound", BOUND | _NOT_USED),
    (r".*\.residual\.depth", INT),
    (r".*\.(dir_args|shrink_header|grid_conf|data_aug_conf)", MAP | _NOT_USED),
)


def build_model(hypes: Mapping[str, Any], train_flag: bool = True, modules: Iterable[ModuleType] = ()) -> nn.Module:
    """Build ``model.core_method`` with ``model.args``.

    A name the registry does not know is that of a class that takes ``model.args``: without underscores, whatever its
    case, in one of the user's modules or in the module ``opencood.models.<name>`` (spec config.md).

    Args:
        train_flag: what CodeAlign's models are told: whether the model is built for training.
        modules: modules of the user.

    Raises:
        ConfigError: the section, the name or an argument is missing or wrong; the message names the key.
    """
    wanted = hypes.get("model")
    if not isinstance(wanted, Mapping) or "core_method" not in wanted:
        raise ConfigError(
            "model: this configuration has no model section with a core_method, so there is nothing to build."
        )
    name = str(wanted["core_method"])
    args = wanted.get("args") or {}
    if not isinstance(args, Mapping):
        raise ConfigError(f"model.args: a mapping is expected, not {type(args).__name__}.")
    if not REGISTRY.has("model", name):
        if (found := _user_class(name, modules)) is not None:
            return found(args)
        if (reason := why_unavailable(name)) is not None:
            raise ConfigError(f"model.core_method: '{name}' is a published model, but {reason}.")
    _check_kinds(args)
    _check_anchors(hypes, args)
    _check_grids(hypes, args)
    return REGISTRY.build("model", name, args, where="model.args", hypes=hypes, train_flag=train_flag)


def _user_class(name: str, modules: Iterable[ModuleType]) -> type[nn.Module] | None:
    """The class of a name in some modules, else in the module of that name in the package of models."""
    full = f"opencood.models.{name}"
    if name.isidentifier() and importlib.util.find_spec(full) is not None:
        modules = [*modules, importlib.import_module(full)]
    wanted = name.replace("_", "").lower()
    for module in modules:
        for key, value in vars(module).items():
            if key.lower() == wanted and isinstance(value, type) and issubclass(value, nn.Module):
                return value
    return None


def _check_kinds(args: Mapping[str, Any]) -> None:
    for path, value in _below("model.args", args):
        kind = next((kind for end, kind in _KINDS if re.fullmatch(end, path)), None)
        if kind and not kind.accepts(value):
            raise ConfigError(f"{path}: {kind.expected} is expected, not {value!r}.")


def _below(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{path}.{key}", value
            yield from _below(f"{path}.{key}", value)


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


def _check_grids(hypes: Mapping[str, Any], args: Mapping[str, Any]) -> None:
    """An encoder places what the preprocessor numbers, so both must divide the same range into the same cells."""
    _check_grid(lookup(hypes, "preprocess"), args, "preprocess", "model.args")
    for name, setting in section(hypes, "heter.modality_setting").items():
        encoder = section(args, f"{name}.encoder_args")
        where = f"heter.modality_setting.{name}.preprocess"
        _check_grid(lookup(setting, "preprocess"), encoder, where, f"model.args.{name}.encoder_args")


def _check_grid(preprocess: Any, encoder: Mapping[str, Any], where: str, where_encoder: str) -> None:
    numbered = _cells(lookup(preprocess, "cav_lidar_range"), lookup(preprocess, "args.voxel_size"))
    placed = _cells(encoder.get("lidar_range"), encoder.get("voxel_size"))
    if numbered and placed and numbered != placed:
        raise ConfigError(
            f"{where} makes {numbered[0]} x {numbered[1]} cells of cav_lidar_range and args.voxel_size, but "
            f"{where_encoder} places {placed[0]} x {placed[1]} of lidar_range and voxel_size; make both equal."
        )


def _cells(limits: Any, size: Any) -> tuple[int, int] | None:
    """Cells along x and y, or None where range or size are not given as numbers above zero."""
    if not (RANGE.accepts(limits) and VOXEL.accepts(size) and min(size) > 0):
        return None
    return round((limits[3] - limits[0]) / size[0]), round((limits[4] - limits[1]) / size[1])
