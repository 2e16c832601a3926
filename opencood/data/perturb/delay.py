"""Communication delay as published: how old the message of an agent is (spec data.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opencood.data.draws import Draws
from opencood.data.perturb.timing import FRAME_MS, Age
from opencood.errors import ConfigError, nearest

_MODES = ("sim", "real")
_SHORTEST_RANDOM_MS = 100


@dataclass(frozen=True)
class Delay:
    """Age of the messages of every agent but the ego, from ``noise_setting`` or ``wild_setting``; milliseconds.

    Attributes:
        async_mode: ``sim`` (a chosen time) or ``real`` (drawn, plus the time to compute and to send).
        async_overhead: the time; the longest one where it is drawn.
        async_method: ``random`` draws the time of mode ``sim``: [0, overhead) + 100; anything else keeps it fixed.
        backbone_delay: time to compute (mode ``real``).
        data_size: size of a message in megabits (mode ``real``).
        transmission_speed: megabits per second (mode ``real``).
    """

    async_mode: str = "sim"
    async_overhead: float = 0.0
    async_method: str = "fixed"
    backbone_delay: float = 0.0
    data_size: float = 0.0
    transmission_speed: float = 27.0

    def __post_init__(self) -> None:
        if self.async_mode not in _MODES:
            raise ConfigError(
                f"async_mode: '{self.async_mode}' is none of {', '.join(_MODES)}."
                f"{nearest(str(self.async_mode), _MODES)}"
            )
        if self.async_mode == "real" and not self.transmission_speed > 0:
            raise ConfigError(f"transmission_speed: {self.transmission_speed} must be positive (Mb/s).")

    def frames(self, draws: Draws) -> int:
        """Return by how many whole frames one message is late."""
        return int(self._milliseconds(draws)) // FRAME_MS

    def ages(self, scenario: str, agent: str, moments: int, draws: Draws) -> Sequence[Age]:
        """Return the age at every moment, drawn one after the other from the plan's own generator as published."""
        ages = [self.frames(draws) * FRAME_MS for _ in range(moments)]
        return [Age(age, age) for age in ages]

    def _milliseconds(self, draws: Draws) -> float:
        if self.async_mode == "real":
            sending = self.data_size / self.transmission_speed * 1000
            return draws.numpy.uniform(0, max(0.0, self.async_overhead)) + sending + self.backbone_delay
        if self.async_overhead <= 0:
            return 0
        if self.async_method == "random":
            return draws.numpy.randint(0, max(1, int(self.async_overhead))) + _SHORTEST_RANDOM_MS
        return self.async_overhead


def build_wild_delay(setting: Mapping[str, Any] | None) -> Delay | None:
    """Return the delay of a ``wild_setting`` (V2X-Real, CooPre; spec coopre.md, 11.4), or None when it is off.

    Raises:
        ConfigError: a value is not legal.
    """
    return _delay(setting) if setting and setting.get("async") else None


def build_delay(setting: Mapping[str, Any] | None) -> Delay | None:
    """Return the delay of a ``noise_setting``, or None when it is off (it needs ``add_noise`` too).

    Raises:
        ConfigError: the delay is on but ``async_args`` are missing, or have no legal value.
    """
    if not setting or not setting.get("add_noise") or not setting.get("add_async_noise"):
        return None
    args = setting.get("async_args")
    if not args:
        raise ConfigError("noise_setting.async_args: missing although add_async_noise is on.")
    return _delay(args)


def _delay(args: Mapping[str, Any]) -> Delay:
    numbers = ("async_overhead", "backbone_delay", "data_size", "transmission_speed")
    known: dict[str, Any] = {key: float(args[key]) for key in numbers if args.get(key) is not None}
    known |= {key: str(args[key]) for key in ("async_mode", "async_method") if args.get(key) is not None}
    return Delay(**known)
