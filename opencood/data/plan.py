"""The read plan: (scenario, stamp, agents) -> which stamp of which agent, in which role (spec data.md, section 3.1)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from opencood.data.draws import Draws
from opencood.data.frame import Frame, roadside_last
from opencood.data.index import Track
from opencood.data.modality import Roster
from opencood.errors import DataError

Tree = Mapping[str, Mapping[str, Track]]


@dataclass(frozen=True)
class AgentRead:
    """One agent of a planned frame: the index row it is read from, and its modality."""

    agent: str
    stamp: str
    row: int
    modality: str | None


@dataclass(frozen=True)
class FramePlan:
    """What is read for one frame; the first agent is the ego."""

    index: int
    scenario: str
    stamp: str
    reads: tuple[AgentRead, ...]


@dataclass(frozen=True)
class ScenarioPlan:
    """Agents of one scenario in their order, with the modality of each at each stamp of the ego."""

    name: str
    tracks: tuple[tuple[str, Track], ...]
    modalities: tuple[tuple[str, ...], ...] | None

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
        reads = tuple(self._read(scenario, agent, stamp, position) for agent in range(len(scenario.tracks)))
        return FramePlan(index, scenario.name, stamp, reads)

    @staticmethod
    def _read(scenario: ScenarioPlan, order: int, stamp: str, position: int) -> AgentRead:
        agent, track = scenario.tracks[order]
        row = track.row(stamp)
        if row is None:
            ego = scenario.tracks[0][0]
            raise DataError(
                f"scenario {scenario.name}: agent {agent} has no metadata file for stamp {stamp}, which the ego {ego} "
                "has; complete the folder or remove the stamp from all agents."
            )
        modality = scenario.modalities[order][position] if scenario.modalities else None
        return AgentRead(agent, stamp, row, modality)


def make_plan(tree: Tree, *, train: bool, max_cav: int, roster: Roster | None, draws: Draws) -> Plan:
    """Order the agents of every scenario and give them their modalities.

    Test: agents sorted as text; training: shuffled. Position 0 becomes the ego, at most ``max_cav`` agents take part.
    """
    scenarios = []
    for name, tracks in tree.items():
        ids = sorted(tracks)
        if train:
            draws.python.shuffle(ids)
        ids = roadside_last(ids)
        if roster is not None:
            ids = roster.order(name, ids, draws)
        chosen = ids[:max_cav]
        modalities = None
        if roster is not None:
            modalities = tuple(
                tuple(roster.modality(name, ids, position, draws) for _ in tracks[agent].stamps)
                for position, agent in enumerate(chosen)
            )
        scenarios.append(ScenarioPlan(name, tuple((agent, tracks[agent]) for agent in chosen), modalities))
    return Plan(scenarios)


def within_range(frame: Frame, comm_range: float) -> Frame:
    """Return the frame with the agents whose planar distance to the ego is at most ``comm_range`` metres.

    Distances are those of the poses the agents believe in, noise included.
    """
    positions = np.stack([agent.lidar_pose[:2] for agent in frame.agents])
    near = np.linalg.norm(positions - positions[0], axis=1) <= comm_range
    return replace(frame, agents=tuple(agent for agent, is_near in zip(frame.agents, near, strict=True) if is_near))
