"""Time and motion: steps between stamps, frame rate, agents that jump, agents that lack stamps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from opencood.config.dialect import HypesLoader
from opencood.data import files
from opencood.data.readers.base import Reader
from opencood.experiments.dataset_check.look import FrameLook

_JUMP_METRES, _JUMP_DEGREES = 10.0, 45.0  # a step may be so long, however short it takes,
_SPEED, _TURN = 60.0, 90.0  # or last so long at so many metres and degrees a second
_USUAL_HERTZ = 10.0  # where nothing says how fast frames follow each other
_ROADSIDE_METRES = 0.5  # roadside units stand still
_MOVING = 0.2  # metres a step from which on the speed says something about the time between frames
_TIMED_PAIRS, _TIMED_STEPS, _FEWEST_TIMED = 20, 5, 3  # in all, of one agent, to believe them
_KMH = 3.6


@dataclass(frozen=True)
class Jump:
    """An agent that is elsewhere one frame later."""

    scenario: str
    agent: str
    stamps: tuple[str, str]
    metres: float
    degrees: float

    def __str__(self) -> str:
        first, second = self.stamps
        moved = f"{self.metres:.1f} m, {self.degrees:.0f} degrees"
        return f"{self.scenario}/{self.agent} from {first} to {second}: {moved}"


@dataclass(frozen=True)
class Motion:
    """What the poses of a split say.

    Attributes:
        step: usual difference of the numbers of two stamps in a row; None when stamps are no numbers.
        steps: pairs of stamps in a row.
        gaps: of these, pairs that are farther apart.
        jumps: agents that moved too far from one stamp to the next.
        hertz: frame rate by the speed that metadata files state, or None.
    """

    step: int | None
    steps: int
    gaps: int
    jumps: tuple[Jump, ...]
    hertz: float | None


def motion_of(looks: Iterable[FrameLook], root: Path) -> Motion:
    """Follow every agent of every scenario from frame to frame."""
    tracks: dict[tuple[str, str], dict[str, tuple[bool, tuple[float, ...]]]] = defaultdict(dict)
    for look in looks:
        for agent in look.agents:
            tracks[look.scenario, agent.id][look.stamp] = agent.roadside, agent.pose
    differences = Counter(
        int(second) - int(first) for track in tracks.values() for first, second in _pairs(track) if _numbers(track)
    )
    step = differences.most_common(1)[0][0] if differences else None
    walks = {key: _walk(track, step) for key, track in tracks.items()}
    hertz = _frame_rate(_timed(walks, root))
    jumps = [jump for key, walk in walks.items() for jump in _jumps(*key, walk, hertz)]
    gaps = sum(count for difference, count in differences.items() if difference != step)
    steps = sum(max(0, len(track) - 1) for track in tracks.values())
    return Motion(step, steps, gaps, tuple(jumps), hertz)


@dataclass(frozen=True)
class _Walk:
    """The steps of one agent: metres, degrees and usual intervals of each, (n - 1,) for n stamps."""

    stamps: list[str]
    roadside: bool
    metres: NDArray[np.float64]
    degrees: NDArray[np.float64]
    intervals: NDArray[np.float64]


def _walk(track: Mapping[str, tuple[bool, tuple[float, ...]]], step: int | None) -> _Walk:
    stamps = sorted(track)
    metres, degrees = _moved(np.array([track[stamp][1] for stamp in stamps]))
    return _Walk(stamps, track[stamps[0]][0], metres, degrees, _intervals(stamps, step))


def _jumps(scenario: str, agent: str, walk: _Walk, hertz: float | None) -> Iterator[Jump]:
    """Steps that nothing on wheels makes in their time; a roadside unit makes none."""
    seconds = walk.intervals / (hertz or _USUAL_HERTZ)
    farthest = np.full(len(seconds), _ROADSIDE_METRES) if walk.roadside else np.maximum(_JUMP_METRES, _SPEED * seconds)
    turned = np.maximum(_JUMP_DEGREES, _TURN * seconds)
    for k in np.flatnonzero((walk.metres > farthest) | (walk.degrees > turned)).tolist():
        pair = (walk.stamps[k], walk.stamps[k + 1])
        yield Jump(scenario, agent, pair, float(walk.metres[k]), float(walk.degrees[k]))


def _timed(walks: Mapping[tuple[str, str], _Walk], root: Path) -> list[tuple[Path, str, str, float]]:
    """Folder, two stamps in a row, and metres between them, of some agents that move."""
    found: list[tuple[Path, str, str, float]] = []
    for (scenario, agent), walk in walks.items():
        usable = np.flatnonzero((walk.metres > _MOVING) & (walk.intervals == 1)).tolist()
        for k in usable[:: max(1, len(usable) // _TIMED_STEPS)][:_TIMED_STEPS]:
            found.append((root / scenario / agent, walk.stamps[k], walk.stamps[k + 1], float(walk.metres[k])))
    return found[:: max(1, len(found) // _TIMED_PAIRS)][:_TIMED_PAIRS]


def missing_stamps(reader: Reader) -> dict[str, list[tuple[str, int]]]:
    """Scenario -> agents with the number of stamps that another agent of the scenario has and they lack."""
    index: Any = getattr(reader, "index", None)
    lacking = {}
    for scenario, tracks in (index.tree if index is not None else {}).items():
        union = set().union(*(track.stamps for track in tracks.values()))
        short = [(agent, len(union) - len(track.stamps)) for agent, track in tracks.items()]
        short = [(agent, count) for agent, count in short if count]
        if short:
            lacking[scenario] = short
    return lacking


def _pairs(track: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    stamps = sorted(track)
    return zip(stamps, stamps[1:], strict=False)


def _numbers(track: Mapping[str, Any]) -> bool:
    return all(stamp.isdigit() for stamp in track)


def _moved(poses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres and degrees of heading between poses (n, 6) in a row."""
    change = np.diff(poses, axis=0)
    turned = (change[:, 4] + 180) % 360 - 180
    return np.linalg.norm(change[:, :3], axis=1), np.abs(turned)


def _intervals(stamps: list[str], step: int | None) -> NDArray[np.float64]:
    """How many usual steps lie between stamps in a row; at least one."""
    if step is None or not all(stamp.isdigit() for stamp in stamps):
        return np.ones(len(stamps) - 1)
    return np.maximum(np.diff([int(stamp) for stamp in stamps]) / step, 1.0)


def _frame_rate(timed: list[tuple[Path, str, str, float]]) -> float | None:
    """Frames a second: the speed in two metadata files over the way between them; None from fewer than three pairs."""
    rates = []
    for folder, first, second, metres in timed:
        speeds = [_speed(folder / f"{stamp}.yaml") for stamp in (first, second)]
        if None not in speeds:
            rates.append(np.mean([speed for speed in speeds if speed is not None]) / _KMH / metres)
    return float(np.median(rates)) if len(rates) >= _FEWEST_TIMED else None


def _speed(path: Path) -> float | None:
    """``ego_speed`` of a metadata file, km/h; None where the format has none."""
    try:
        content = yaml.load(files.read_bytes(path), Loader=HypesLoader)
        return float(content["ego_speed"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):  # formats without speeds, broken files
        return None
