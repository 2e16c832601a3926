"""The section ``perturb`` of a configuration: registered disturbances by name, each in training, testing or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.perturb.timing import Asynchrony, Lateness, MessageDelay
from opencood.errors import ConfigError, nearest
from opencood.registry import REGISTRY

Step = Callable[[Frame, Draws], Frame]
WHEN = ("always", "train", "test")
_DELAY, _ASYNCHRONY = "delay", "asynchrony"


@dataclass(frozen=True)
class Perturbations:
    """What disturbs the frames of one split.

    Attributes:
        steps: change frames after reading, by name; each is handed generators of its own.
        timing: decides what is read, or None.
        pose_only: late agents have old poses but current sensor data.
    """

    steps: tuple[tuple[str, Step], ...] = ()
    timing: Lateness | None = None
    pose_only: bool = False

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the disturbed frame; no step changes what another one draws."""
        for name, step in self.steps:
            frame = step(frame, draws.child(name))
        return frame


def active(section: Mapping[str, Any] | None, train: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of the disturbances that apply to a split, by name.

    Raises:
        ConfigError: the section is no map of maps, or says ``when`` in an unknown word.
    """
    chosen = {}
    for name, content in _map(section, "perturb").items():
        if content is False:  # switched off, for instance against a base file
            continue
        arguments = dict(_map(content, f"perturb.{name}"))
        when = arguments.pop("when", "always")
        if when not in WHEN:
            raise ConfigError(f"perturb.{name}.when: '{when}' is none of {', '.join(WHEN)}.{nearest(str(when), WHEN)}")
        if when in ("always", "train" if train else "test"):
            chosen[str(name)] = arguments
    return chosen


def build_perturbations(
    section: Mapping[str, Any] | None, train: bool, seed: int, comm_range: float = math.inf
) -> Perturbations:
    """Build what the section asks for in a split.

    Args:
        section: ``{name: {argument: value, when: always | train | test}}``; None and an empty map disturb nothing.
        seed: of what is drawn once for a whole run.
        comm_range: metres, for what concerns only agents that hear each other.

    Raises:
        ConfigError: an unknown name, or an argument is missing or has no legal value.
    """
    built = {
        name: REGISTRY.build(
            "perturbation", name, arguments, where=f"perturb.{name}", run_seed=seed, comm_range=comm_range
        )
        for name, arguments in active(section, train).items()
    }
    delay: MessageDelay | None = built.pop(_DELAY, None)
    asynchrony: Asynchrony | None = built.pop(_ASYNCHRONY, None)
    pose_only = delay is not None and delay.pose_only
    if pose_only and asynchrony is not None:
        raise ConfigError("perturb: delay.pose_only keeps sensor data current, asynchrony makes it old; choose one.")
    timing = Lateness(delay, asynchrony, Draws.keyed(seed, "run")) if delay or asynchrony else None
    return Perturbations(tuple(built.items()), timing, pose_only)


def describe(section: Mapping[str, Any] | None, train: bool) -> str:
    """Return what disturbs a split in one line, such as ``fog(visibility=50), drop_agents(probability=0.2)``."""
    return ", ".join(
        f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
        for name, arguments in active(section, train).items()
    )


def _map(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a map such as {{fog: {{visibility: 100}}}}, found {value!r}.")
    return value
