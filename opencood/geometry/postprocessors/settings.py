"""What the ``postprocess`` section of a hypes file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opencood.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Which boxes can be real; None in the YAML switches a limit off.

    Attributes:
        extent: longest side of the standup box, metres (``postprocess.max_box_extent``).
        lowest, highest: heights of all corners, metres (``postprocess.box_height_range``).
    """

    extent: float
    lowest: float
    highest: float

    def overridden(self, section: Mapping[str, Any]) -> Limits:
        """Return these limits with those replaced that the section sets."""
        extent = section.get("max_box_extent", self.extent)
        heights = section.get("box_height_range", (self.lowest, self.highest))
        lowest, highest = (-math.inf, math.inf) if heights is None else heights
        return Limits(math.inf if extent is None else float(extent), float(lowest), float(highest))


# The published constants: average precision depends on them (evaluation.md, section 3).
SINGLE_CLASS_LIMITS = Limits(extent=6.0, lowest=-3.0, highest=1.0)
MULTICLASS_LIMITS = Limits(extent=100.0, lowest=-100.0, highest=100.0)


def required(section: Mapping[str, Any], *path: str) -> Any:
    """Return the value at a key path of the section.

    Raises:
        ConfigError: a key on the path is missing.
    """
    value: Any = section
    for depth, key in enumerate(path):
        if not isinstance(value, Mapping) or key not in value:
            raise ConfigError(f"{'.'.join(('postprocess', *path[:depth]))}: missing key '{key}'.")
        value = value[key]
    return value
