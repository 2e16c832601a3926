"""Old observations: messages that travel, and sensors that do not sample at the same instant.

Everything happens where data is read: an observation of age a at the ego's moment t is the newest recorded one that was
taken not later than t - a, but no older than the first of its scenario. Where a data set has no time stamps a frame
stands for 100 ms, as in all published loaders. The ego is never old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.errors import ConfigError, nearest
from opencood.registry import register

FRAME_MS = 100  # frames are taken at 10 Hz
_SLACK = 1e-9  # a delay of exactly one frame is one frame


class Age(NamedTuple):
    """How old an observation is, and how old the pose is that comes with it, in milliseconds."""

    sensor: float
    pose: float

    @property
    def frames(self) -> int:
        """How many frames one must go back for an observation at least so old."""
        return _frames(self.sensor)

    @property
    def pose_frames(self) -> int:
        """The same for the pose."""
        return _frames(self.pose)


ON_TIME = Age(0, 0)


class Timing(Protocol):
    """What makes observations old."""

    def ages(self, scenario: str, agent: str, moments: int, draws: Draws) -> Sequence[Age]:
        """The age of what one agent contributes at each of so many moments of the ego."""


@register("perturbation", "delay")
@dataclass(frozen=True)
class MessageDelay:
    """Messages arrive late, with the pose of the instant at which their content was measured.

    Attributes:
        milliseconds: age of a message when the ego uses it; the largest one with ``random``.
        random: drawn uniformly from [0, milliseconds] for every agent and frame; otherwise always the same.
        pose_only: the published variant: the pose is old but the sensor data is current (spec data.md, Q9).
    """

    milliseconds: float
    random: bool = False
    pose_only: bool = False

    def __post_init__(self) -> None:
        _check_milliseconds("delay", self.milliseconds)

    def draw(self, moments: int, draws: Draws) -> NDArray[np.float64]:
        """Return the age (moments,) in milliseconds at each moment."""
        if self.random:
            return draws.numpy.uniform(0, self.milliseconds, moments)
        return np.full(moments, float(self.milliseconds))


@register("perturbation", "asynchrony")
@dataclass(frozen=True)
class Asynchrony:
    """The sensors of the agents do not sample at the same instant.

    Every agent's sensor runs behind the ego's by an offset drawn uniformly from [0, milliseconds]; its sweep at the
    ego's moment is the newest recorded one that is at least so old.

    Attributes:
        milliseconds: the largest offset.
        per: ``agent`` (a constant of each agent in each scenario: clocks that run apart) or ``frame`` (drawn anew for
            every agent and frame: jitter).
        stamped: the pose sent along is that of the sweep's own instant; False: that of the ego's instant, as if all
            sensors had sampled together, so that an agent in motion puts its sweep in the wrong place.
    """

    milliseconds: float = FRAME_MS
    per: str = "agent"
    stamped: bool = True

    def __post_init__(self) -> None:
        _check_milliseconds("asynchrony", self.milliseconds)
        if self.per not in ("agent", "frame"):
            raise ConfigError(
                f"perturb.asynchrony.per: '{self.per}' is none of agent, frame.{nearest(self.per, ('agent', 'frame'))}"
            )

    def draw(self, moments: int, draws: Draws) -> NDArray[np.float64]:
        """Return the offset (moments,) in milliseconds at each moment."""
        drawn = draws.numpy.uniform(0, self.milliseconds, moments if self.per == "frame" else 1)
        return np.broadcast_to(drawn, moments)


@dataclass(frozen=True)
class Lateness:
    """Delay and asynchrony together: the ages add up before they are counted in frames.

    Attributes:
        delay: of messages, or None.
        asynchrony: of sensors, or None.
        run: generators that stay the same over all epochs, for what is a constant of an agent.
    """

    delay: MessageDelay | None = None
    asynchrony: Asynchrony | None = None
    run: Draws = field(default_factory=lambda: Draws.keyed(0))

    def ages(self, scenario: str, agent: str, moments: int, draws: Draws) -> Sequence[Age]:
        """Return the age at every moment; draws of one agent depend on nothing but its name."""
        delay = offset = np.zeros(moments)
        if self.delay is not None:
            delay = self.delay.draw(moments, draws.child("delay", scenario, agent))
        if self.asynchrony is not None:
            source = self.run if self.asynchrony.per == "agent" else draws
            offset = self.asynchrony.draw(moments, source.child("asynchrony", scenario, agent))
        stamped = self.asynchrony is None or self.asynchrony.stamped
        pose = delay + offset if stamped else delay
        return [Age(*pair) for pair in zip((delay + offset).tolist(), pose.tolist(), strict=True)]


def _frames(milliseconds: float) -> int:
    return math.ceil(milliseconds / FRAME_MS - _SLACK)


def _check_milliseconds(name: str, value: float) -> None:
    if not (0 <= value < math.inf):
        raise ConfigError(f"perturb.{name}.milliseconds: expected a number not below 0, found {value:g}.")
