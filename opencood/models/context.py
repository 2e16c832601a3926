"""What a part is built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opencood.config.flavor import quirk
from opencood.errors import ConfigError, nearest

CENTRE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Context:
    """The YAML around a part, and what arrives at it.

    Attributes:
        hypes: the whole configuration, with ``flavor`` and ``parity``.
        args: ``model.args``.
        modality: name of the modality the part belongs to; None for a shared part.
        width: channels of the map that arrives; None when unknown.
        level_widths: channels of the levels of the backbone that the fuse stage owns.
    """

    hypes: Mapping[str, Any]
    args: Mapping[str, Any]
    modality: str | None = None
    width: int | None = None
    level_widths: tuple[int, ...] = ()

    @property
    def own(self) -> Mapping[str, Any]:
        """The section this part reads: its modality's, or ``model.args``."""
        return self.args if self.modality is None else self.args[self.modality]

    def where(self, *keys: str) -> str:
        """Path of a key of :attr:`own`, for messages."""
        return ".".join(("model", "args", *(() if self.modality is None else (self.modality,)), *keys))

    def need(self, key: str) -> Any:
        """A key that must be there.

        Raises:
            ConfigError: it is not.
        """
        if key not in self.own:
            raise ConfigError(f"{self.where()}: missing key '{key}'.{nearest(key, map(str, self.own))}")
        return self.own[key]

    def quirk(self, name: str) -> Any:
        """Value of a quirk switch for this configuration."""
        return quirk(self.hypes, name)

    def carrying(self, width: int | None, level_widths: Sequence[int] | None = None) -> Context:
        """The context of the next part in the flow."""
        levels = self.level_widths if level_widths is None else tuple(level_widths)
        return replace(self, width=width, level_widths=levels)

    def check_width(self, expected: int, key: str) -> None:
        """Raise ConfigError when a part expects another number of channels than arrive."""
        if self.width is not None and expected != self.width:
            raise ConfigError(f"{self.where(key)}: made for {expected} channels, but {self.width} arrive.")

    @property
    def lidar_range(self) -> Sequence[float]:
        """``model.args.lidar_range``, or that of ``grid_conf``: x0, y0, z0, x1, y1, z1 in metres."""
        values = self.args.get("lidar_range")
        if values is None and (grid := self.args.get("grid_conf")):
            values = [grid[axis][end] for end in (0, 1) for axis in ("xbound", "ybound", "zbound")]
        if values is None or len(values) != 6:
            raise ConfigError(f"model.args.lidar_range: six numbers x0, y0, z0, x1, y1, z1 are needed, not {values}.")
        return values

    @property
    def extent(self) -> tuple[float, float]:
        """Metres along (y, x) of the range, which must be centred at the agent.

        Raises:
            ConfigError: it is not; warps turn about the centre of the map.
        """
        x0, y0, _, x1, y1, _ = self.lidar_range
        if abs(x0 + x1) > CENTRE_TOLERANCE or abs(y0 + y1) > CENTRE_TOLERANCE:
            raise ConfigError(
                f"model.args.lidar_range: {list(self.lidar_range)} is not centred at x = y = 0; maps of several "
                "agents are turned about their centre, so use a symmetric range in x and y."
            )
        return y1 - y0, x1 - x0
