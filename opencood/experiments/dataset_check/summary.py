"""Figures of one split, from the looks at its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opencood.experiments.dataset_check.look import OK, AgentLook, FrameLook, Trouble

EXAMPLES = 3
_CLASS_NAMES = {"v2xreal": ("vehicle", "pedestrian", "truck")}


@dataclass
class Summary:
    """Counts over the frames of a split.

    Attributes:
        frames: looked at, with readable metadata.
        scenarios: name -> frames.
        agents: agents per frame -> frames.
        names: all agents, (scenario, id) -> whether roadside.
        states: (kind, state) -> files, or frames for metadata and label lists.
        examples: (kind, state) -> the first troubles.
        classes: label -> listed objects.
        points: of every sweep that was read.
        picture_sizes: (width, height) -> agents and frames.
        apart: metres of every other agent to the first one of its frame.
    """

    frames: int = 0
    scenarios: Counter[str] = field(default_factory=Counter)
    agents: Counter[int] = field(default_factory=Counter)
    names: dict[tuple[str, str], bool] = field(default_factory=dict)
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[Trouble]] = field(default_factory=dict)
    classes: Counter[int] = field(default_factory=Counter)
    odd_sizes: int = 0
    out_of_range: int = 0
    points: list[int] = field(default_factory=list)
    reach: float = 0.0
    near: int = 0
    hit: int = 0
    hit_mirrored: int = 0
    picture_sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    apart: list[float] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """Listed objects, each counted for every agent and frame."""
        return sum(self.classes.values())

    def named_classes(self, format_name: str) -> dict[str, int]:
        """Objects by the name of their class."""
        names = _CLASS_NAMES.get(format_name, ())
        return {
            names[label - 1] if label <= len(names) else ("vehicle" if label == 1 else f"class {label}"): count
            for label, count in sorted(self.classes.items())
        }

    def as_plain(self, format_name: str) -> dict[str, Any]:
        """The figures as JSON knows them."""
        return {
            "frames": self.frames,
            "scenarios": dict(self.scenarios),
            "agents_per_frame": {str(number): count for number, count in sorted(self.agents.items())},
            "agents": len(self.names),
            "roadside_agents": sum(self.names.values()),
            "files": {f"{kind} {state}": count for (kind, state), count in sorted(self.states.items())},
            "classes": self.named_classes(format_name),
            "boxes_of_odd_size": self.odd_sizes,
            "boxes_out_of_range": self.out_of_range,
            "boxes_nearby": self.near,
            "boxes_nearby_with_points": self.hit,
            "points_per_sweep": spread(self.points),
            "farthest_point_m": round(self.reach, 1),
            "picture_sizes": [list(size) for size in sorted(self.picture_sizes)],
            "metres_between_agents": spread(self.apart),
        }


def summarise(looks: Iterable[FrameLook]) -> Summary:
    """Add up the looks at all frames of a split."""
    summary = Summary()
    for look in looks:
        for trouble in look.troubles:
            shown = summary.examples.setdefault((trouble.kind, trouble.state), [])
            if len(shown) < EXAMPLES:
                shown.append(trouble)
        # Files are counted by the agents below, metadata and lists of labels by their troubles.
        counted = {kind for agent in look.agents for kind, _ in agent.states}
        summary.states.update((t.kind, t.state) for t in look.troubles if t.kind not in counted)
        summary.states.update((kind, OK) for kind in look.readable)
        if not look.agents:
            continue
        summary.frames += 1
        summary.scenarios[look.scenario] += 1
        summary.agents[len(look.agents)] += 1
        first = np.array(look.agents[0].pose[:2])
        summary.apart += [float(np.linalg.norm(np.array(agent.pose[:2]) - first)) for agent in look.agents[1:]]
        for agent in look.agents:
            _add(summary, look.scenario, agent)
    return summary


def _add(summary: Summary, scenario: str, agent: AgentLook) -> None:
    summary.names[scenario, agent.id] = agent.roadside
    summary.states.update(agent.states)
    summary.classes.update(agent.classes)
    summary.odd_sizes += agent.odd_sizes
    summary.out_of_range += agent.out_of_range
    summary.near += agent.near
    summary.hit += agent.hit
    summary.hit_mirrored += agent.hit_mirrored
    summary.reach = max(summary.reach, agent.reach)
    summary.picture_sizes.update(agent.picture_sizes)
    if agent.points is not None:
        summary.points.append(agent.points)


def spread(values: list[int] | list[float]) -> dict[str, float]:
    """Smallest, middle and largest value, rounded; empty without values."""
    if not values:
        return {}
    found = {"smallest": np.min(values), "median": np.median(values), "largest": np.max(values)}
    return {name: round(float(value), 1) for name, value in found.items()}
