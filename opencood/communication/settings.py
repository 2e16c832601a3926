"""What a channel does to messages, as the section ``channel`` of a configuration says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from opencood.communication.precision import PRECISIONS
from opencood.errors import ConfigError, nearest

KILOBYTE = 1000


@dataclass(frozen=True)
class ChannelSettings:
    """Levels that hold for the messages of every method alike.

    Attributes:
        drop: probability that a message is lost, in [0, 1].
        bit_error: probability that a bit of a value or a word arrives wrong, in [0, 0.5].
        precision: of floating values on the wire: ``float32``, ``float16``, ``bfloat16``, ``int16``, ``int8``.
        budget: kilobytes (1000 bytes) that one agent's message may have; None for no limit.

    Raises:
        ConfigError: a value outside its range.
    """

    drop: float = 0.0
    bit_error: float = 0.0
    precision: str = "float32"
    budget: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for key, value, highest in (("drop", self.drop, 1.0), ("bit_error", self.bit_error, 0.5)):
            if not _is_number(value) or not 0.0 <= value <= highest:
                raise ConfigError(f"channel.{key}: {value!r} is no probability from 0 to {highest:g}.")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"channel.precision: unknown '{self.precision}'.{nearest(str(self.precision), PRECISIONS)} Valid: "
                f"{', '.join(PRECISIONS)}."
            )
        if self.budget is not None and not (_is_number(self.budget) and self.budget > 0):
            raise ConfigError(f"channel.budget: {self.budget!r} is no number of kilobytes above 0.")

    @classmethod
    def of(cls, section: Any) -> ChannelSettings:
        """From the section ``channel``; None is a perfect channel.

        Raises:
            ConfigError: it is no map, or has an unknown key or a wrong value.
        """
        if section is None:
            return cls()
        if not isinstance(section, Mapping):
            raise ConfigError(f"channel: expected a map such as {{drop: 0.1}}, found {section!r}.")
        known = [field.name for field in fields(cls)]
        for key in section:
            if key not in known:
                raise ConfigError(f"channel: unknown key '{key}'.{nearest(str(key), known)} Valid: {', '.join(known)}.")
        return cls(**section)

    @property
    def bytes_per_message(self) -> int | None:
        """The budget in bytes."""
        return None if self.budget is None else int(self.budget * KILOBYTE)

    def changes(self) -> dict[str, Any]:
        """The values that differ from a perfect channel."""
        perfect = asdict(ChannelSettings())
        return {key: value for key, value in asdict(self).items() if value != perfect[key]}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
