"""Command-line overrides of a loaded configuration. Source: spec config.md section 3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from opencood.config.loader import Hypes, reparse
from opencood.config.parsers.context import is_number
from opencood.config.tree import lookup
from opencood.errors import ConfigError

RANGE_KEYS = ("cav_lidar_range", "lidar_range", "gt_range")
RANGE_PLACES = ("postprocess.anchor_args.cav_lidar_range", "preprocess.cav_lidar_range", "cav_lidar_range")


def update_dict(hypes: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which, in every nested map, each key of ``new`` with a non-null value has that value.

    Lists are not looked into, and no key is added where it is absent.
    """
    changed: dict[str, Any] = {}
    for key, value in hypes.items():
        if new.get(key) is not None:
            changed[key] = new[key]
        elif isinstance(value, Mapping):
            changed[key] = update_dict(value, new)
        else:
            changed[key] = value
    return changed


def configured_range(hypes: Mapping[str, Any]) -> list[float]:
    """Return the detection range ``[x0, y0, z0, x1, y1, z1]`` in metres that a configuration was written for.

    Raises:
        ConfigError: no section holds one.
    """
    settings = lookup(hypes, "heter.modality_setting") or {}
    by_modality = [f"heter.modality_setting.{m}.postprocess.anchor_args.cav_lidar_range" for m in settings]
    for path in (*RANGE_PLACES, *by_modality):
        found = lookup(hypes, path)
        if isinstance(found, list) and len(found) == 6 and all(map(is_number, found)):
            return list(found)
    raise ConfigError(f"no detection range in the configuration; expected {RANGE_PLACES[0]}: [x0, y0, z0, x1, y1, z1].")


def parse_range(text: str) -> tuple[float, float]:
    """Read ``--range X,Y`` (metres).

    Raises:
        ConfigError: not two positive numbers.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--range: expected two numbers such as 102.4,51.2, found '{text}'.") from error
    if not (0 < x < math.inf and 0 < y < math.inf):
        raise ConfigError(f"--range: expected two positive numbers of metres, found '{text}'.")
    return x, y


def with_range(hypes: Hypes, x: float, y: float) -> Hypes:
    """Return the configuration for the range ``[-x, -y, z0, x, y, z1]`` (z as configured), everything derived again."""
    old = configured_range(hypes)
    limits = [-x, -y, old[2], x, y, old[5]]
    return reparse(hypes.replaced(update_dict(hypes, {key: list(limits) for key in RANGE_KEYS})))
