"""The read plan: (scenario, stamp, agents) -> which stamp of which agent, in which role (spec data.md, section 3.1)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame, roadside_last
from opencood.data.index import Track
from opencood.data.modality import Roster
from opencood.data.perturb.timing import ON_TIME, Age, Timing
from opencood.errors import DataError

Tree = Mapping[str, Mapping[str, Track]]


@dataclass(frozen=True)
class AgentRead:
    """One agent of a planned frame: index row and stamp of the moment, and those its late observation comes from.

    Without a delay the two are the same. ``pose_row`` is where the pose comes from that the agent sends along.
    """

    agent: str
    stamp: str
    row: int
    modality: str | None
    late_stamp: str
    late_row: int
    pose_row: int
    delay: int


@dataclass(frozen=True)
class FramePlan:
    """What is read for one frame; the first agent is the ego."""

    index: int
    scenario: str
    stamp: str
    reads: tuple[AgentRead, ...]


@dataclass(frozen=True)
class ScenarioPlan:
    """Agents of one scenario in their order, with modality and age of the observation at each stamp of the ego."""

    name: str
    tracks: tuple[tuple[str, Track], ...]
    modalities: tuple[tuple[str, ...], ...] | None
    ages: tuple[tuple[Age, ...], ...] | None = None

    @property
    def stamps(self) -> tuple[str, ...]:
        """Stamps of the ego, which are the frames of the scenario."""
        return self.tracks[0][1].stamps


class Plan:
    """All frames of a split in order."""

    def __init__(self, scenarios: list[ScenarioPlan]) -> None:
        self._scenarios = scenarios
        self._ends = list(accumulate(len(scenario.stamps) for scenario in scenarios))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def frame(self, index: int) -> FramePlan:
        """Return what frame ``index`` reads.

        Raises:
            IndexError: there is no such frame.
            DataError: an agent lacks the stamp of the ego.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        scenario = self._scenarios[number]
        position = index - (self._ends[number - 1] if number else 0)
        stamp = scenario.stamps[position]
        reads = tuple(self._read(scenario, agent, position) for agent in range(len(scenario.tracks)))
        return FramePlan(index, scenario.name, stamp, reads)

    @staticmethod
    def _read(scenario: ScenarioPlan, order: int, position: int) -> AgentRead:
        agent = scenario.tracks[order][0]
        stamp = scenario.stamps[position]
        modality = scenario.modalities[order][position] if scenario.modalities else None
        age = scenario.ages[order][position] if scenario.ages else ON_TIME
        delay = min(position, age.frames)  # nothing is older than the first frame of the scenario
        late_stamp = scenario.stamps[position - delay]
        pose_stamp = scenario.stamps[position - min(position, age.pose_frames)]
        row, late_row, pose_row = (_row(scenario, order, each) for each in (stamp, late_stamp, pose_stamp))
        return AgentRead(agent, stamp, row, modality, late_stamp, late_row, pose_row, delay)


def _row(scenario: ScenarioPlan, order: int, stamp: str) -> int:
    agent, track = scenario.tracks[order]
    row = track.row(stamp)
    if row is None:
        ego = scenario.tracks[0][0]
        raise DataError(
            f"scenario {scenario.name}: agent {agent} has no metadata file for stamp {stamp}, which the ego {ego} "
            "has; complete the folder or remove the stamp from all agents."
        )
    return row


def make_plan(
    tree: Tree,
    *,
    train: bool,
    max_cav: int,
    roster: Roster | None,
    draws: Draws,
    timing: Timing | None = None,
    arrange: Callable[[str, list[str]], list[str]] = lambda scenario, ids: roadside_last(ids),
) -> Plan:
    """Order the agents of every scenario, give them their modalities and say how late they are.

    Test: agents sorted as text, or as a closed roster lists them; training: shuffled; then ``arrange`` chooses and
    orders them for a scenario, which is left out when no agent remains. Position 0 becomes the ego, at most ``max_cav``
    agents take part.
    """
    scenarios = []
    groups = dict.fromkeys(tree, ()) if roster is None else roster.scenarios(list(tree))
    for name, group in groups.items():
        tracks = tree[name]
        present = sorted(tracks) if roster is None else roster.members(name, sorted(tracks))
        ids = list(present)
        if train:
            draws.python.shuffle(ids)
        ids = arrange(name, ids)
        if not ids:
            continue
        if roster is not None:
            ids = roster.order(name, ids, draws, present)
        chosen = ids[:max_cav]
        modalities = None
        if roster is not None:
            modalities = tuple(
                tuple(roster.modality(name, ids, position, draws, group) for _ in tracks[agent].stamps)
                for position, agent in enumerate(chosen)
            )
        chosen_tracks = tuple((agent, tracks[agent]) for agent in chosen)
        ages = None if timing is None else _ages(timing, name, chosen_tracks, draws)
        scenarios.append(ScenarioPlan(name, chosen_tracks, modalities, ages))
    return Plan(scenarios)


def _ages(
    timing: Timing, scenario: str, tracks: Sequence[tuple[str, Track]], draws: Draws
) -> tuple[tuple[Age, ...], ...]:
    """How old the observation of each agent is at each stamp of the ego, whose own is never old."""
    moments = len(tracks[0][1].stamps)
    others = (tuple(timing.ages(scenario, agent, moments, draws)) for agent, _ in tracks[1:])
    return ((ON_TIME,) * moments, *others)


def within_range(frame: Frame, comm_range: float) -> Frame:
    """Return the frame with the agents whose planar distance to the ego is at most ``comm_range`` metres.

    Distances are those of the poses the agents believe in, noise included.
    """
    centre = frame.ego.lidar_pose[:2]

    def near(agents: tuple[Agent, ...]) -> tuple[Agent, ...]:
        positions = np.array([agent.lidar_pose[:2] for agent in agents]).reshape(-1, 2)
        inside = np.linalg.norm(positions - centre, axis=1) <= comm_range
        return tuple(agent for agent, is_near in zip(agents, inside, strict=True) if is_near)

    return replace(frame, agents=near(frame.agents), unheard=near(frame.unheard))
