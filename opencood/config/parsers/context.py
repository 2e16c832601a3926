"""What a parser knows besides the map: whose meaning applies, and where keys were written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opencood.config.quirks import QUIRKS
from opencood.config.source import Place, Source
from opencood.config.tree import lookup
from opencood.errors import ConfigError, nearest

MOST_CELLS = 20_000  # along one axis of a grid; more is a slip of units, and the arrays would not fit into memory


@dataclass(frozen=True)
class ParserContext:
    """Flavor, parity, hand-set quirks and source of the configuration; ``prefix`` is the key path of the parsed map."""

    flavor: str = "heal"
    parity: str = "fixed"
    quirks: Mapping[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=lambda: Source(Place("hypes", 0)))
    prefix: str = ""

    def below(self, prefix: str) -> ParserContext:
        """Return the context of a sub-map."""
        return replace(self, prefix=prefix)

    def quirk(self, name: str) -> Any:
        """Value of a quirk switch for this configuration."""
        return self.quirks[name] if name in self.quirks else QUIRKS[name].value(self.flavor, self.parity)

    def need(self, tree: Mapping[str, Any], path: str, parser: str) -> Any:
        """Return the value at a key path.

        Raises:
            ConfigError: it is missing; names file, line, the full key path and the nearest key.
        """
        value = lookup(tree, path)
        if value is not None:
            return value
        parent, _, key = path.rpartition(".")
        holder = lookup(tree, parent) if parent else tree
        known = holder if isinstance(holder, Mapping) else ()
        raise ConfigError(f"{self._at(path)}: missing; yaml_parser '{parser}' needs it.{nearest(key, known)}")

    def numbers(self, tree: Mapping[str, Any], path: str, count: int, parser: str) -> list[float]:
        """Return a list of ``count`` numbers.

        Raises:
            ConfigError: missing, or something else is written there.
        """
        value = self.need(tree, path, parser)
        good = isinstance(value, list | tuple) and len(value) == count and all(map(is_number, value))
        if not good or not all(map(math.isfinite, value)):
            raise ConfigError(f"{self._at(path)}: expected a list of {count} numbers, found {value!r}.")
        return list(value)

    def bounds(self, tree: Mapping[str, Any], path: str, parser: str) -> list[float]:
        """Return a range ``[x0, y0, z0, x1, y1, z1]``.

        Raises:
            ConfigError: missing, something else, or an end that is not above its start.
        """
        limits = self.numbers(tree, path, 6, parser)
        if not all(low < high for low, high in zip(limits[:3], limits[3:], strict=True)):
            raise ConfigError(
                f"{self._at(path)}: expected [x0, y0, z0, x1, y1, z1] with x0 < x1, y0 < y1, z0 < z1, found {limits}."
            )
        return limits

    def voxel(self, tree: Mapping[str, Any], path: str, bounds: list[float], parser: str) -> list[float]:
        """Return the size ``[x, y, z]`` of the voxels that divide a range.

        Raises:
            ConfigError: missing, something else, not above 0, or so small that the grid cannot be meant.
        """
        size = self.numbers(tree, path, 3, parser)
        if min(size) <= 0:
            raise ConfigError(f"{self._at(path)}: expected three sizes above 0 metres, found {size}.")
        most = max((bounds[i + 3] - bounds[i]) / size[i] for i in range(3))
        if most > MOST_CELLS:
            raise ConfigError(
                f"{self._at(path)}: voxels of {size} metres divide the range {bounds} into {most:.3g} cells along one "
                f"axis, {MOST_CELLS} are the most; are both in metres?"
            )
        return size

    def _at(self, path: str) -> str:
        full = f"{self.prefix}.{path}" if self.prefix else path
        return f"{self.source.where(full)}: {full}"


def is_number(value: Any) -> bool:
    """Whether a YAML value is an int or a float (a bool is neither)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
