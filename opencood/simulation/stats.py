"""What a simulated data set is like: counts, sizes, headings, and how much of it only collaboration can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opencood.simulation import rectangles
from opencood.simulation.recording import AgentView, Frame, ego_first

EVALUATION_RANGE = (-51.2, -51.2, -3.0, 51.2, 51.2, 1.0)
COMMUNICATION_RANGE = 70.0
ENOUGH_POINTS = 5
_BIN = 10.0


@dataclass(frozen=True)
class Census:
    """Ground truth of some frames, one row per frame and vehicle; the ego's own body is left out.

    Ground truth is what any agent within communication range of the ego hit, if its whole box lies in the evaluation
    range (ego's sensor frame).

    Attributes:
        counts: (F,) rows of each frame.
        distance: (R,) metres from the ego's sensor.
        heading: (R,) rad, in the ego's frame, -pi to pi.
        size: (R, 3) full length, width, height.
        ego_points: (R,) LiDAR points of the ego on it.
        other_points: (R,) LiDAR points of all other agents on it.
        kinds: R names of shapes.
    """

    counts: np.ndarray
    distance: np.ndarray
    heading: np.ndarray
    size: np.ndarray
    ego_points: np.ndarray
    other_points: np.ndarray
    kinds: tuple[str, ...]


def ego_of(agents: Sequence[AgentView]) -> AgentView:
    """The agent that published test sets take as ego: the first vehicle id in string order (``spec/data.md`` 3.1)."""
    return ego_first(agents)[0]


def take_census(frame: Frame) -> Census:
    """Count one frame."""
    ego, objects = ego_of(frame.agents), frame.objects
    others = [a for a in frame.agents if a is not ego and _planar_distance(a, ego) <= COMMUNICATION_RANGE]
    other_points = np.sum([np.zeros(len(objects.ids), dtype=int), *(agent.hits for agent in others)], axis=0)

    x, y, z, heading = ego.sensor_pose
    cos, sin = np.cos(heading), np.sin(heading)
    dx, dy = objects.poses[:, 0] - x, objects.poses[:, 1] - y
    turn = (objects.poses[:, 2] - heading + np.pi) % (2 * np.pi) - np.pi
    local = np.column_stack([dx * cos + dy * sin, dy * cos - dx * sin, turn, objects.half_sizes[:, :2]])
    corners = rectangles.corners(local)
    low, high = np.array(EVALUATION_RANGE[:2]), np.array(EVALUATION_RANGE[3:5])
    inside = ((corners >= low) & (corners <= high)).all(axis=(1, 2))
    inside &= (-z >= EVALUATION_RANGE[2]) & (2 * objects.half_sizes[:, 2] - z <= EVALUATION_RANGE[5])

    rows = np.flatnonzero(inside & objects.is_vehicle & (objects.ids != ego.agent_id) & (ego.hits + other_points > 0))
    return Census(
        counts=np.array([len(rows)]),
        distance=np.hypot(dx, dy)[rows],
        heading=turn[rows],
        size=2 * objects.half_sizes[rows],
        ego_points=ego.hits[rows],
        other_points=other_points[rows],
        kinds=tuple(objects.kinds[row] for row in rows),
    )


def join(parts: Sequence[Census]) -> Census:
    """One census of several."""
    return Census(
        counts=np.concatenate([part.counts for part in parts]),
        distance=np.concatenate([part.distance for part in parts]),
        heading=np.concatenate([part.heading for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        ego_points=np.concatenate([part.ego_points for part in parts]),
        other_points=np.concatenate([part.other_points for part in parts]),
        kinds=tuple(kind for part in parts for kind in part.kinds),
    )


@dataclass(frozen=True)
class DistanceBin:
    """Ground truth between two distances: how many boxes, and which share has enough points from the ego, from all."""

    near: float
    far: float
    boxes: int
    ego_share: float
    together_share: float


@dataclass(frozen=True)
class Statistics:
    """Figures of a census.

    Attributes:
        frames, boxes: how many.
        boxes_per_frame: smallest, median, largest.
        only_others_share: share of boxes with fewer than ``ENOUGH_POINTS`` from the ego, but as many from others.
        ego_share: share of boxes with at least ``ENOUGH_POINTS`` from the ego.
        by_distance: the same by distance from the ego.
        headings: boxes in twelve sectors of 30 degrees, from -180.
        size_low, size_high: 5th and 95th percentile of length, width, height in metres.
        kinds: boxes by shape.
    """

    frames: int
    boxes: int
    boxes_per_frame: tuple[int, float, int]
    only_others_share: float
    ego_share: float
    by_distance: tuple[DistanceBin, ...]
    headings: tuple[int, ...]
    size_low: tuple[float, ...]
    size_high: tuple[float, ...]
    kinds: dict[str, int]


def statistics(census: Census) -> Statistics:
    """Figures of a census with at least one box."""
    ego_sees = census.ego_points >= ENOUGH_POINTS
    others_see = census.other_points >= ENOUGH_POINTS
    together = census.ego_points + census.other_points >= ENOUGH_POINTS
    edges = np.arange(0, census.distance.max() + _BIN, _BIN)
    bins = []
    for near, far in zip(edges[:-1], edges[1:], strict=True):
        members = (census.distance >= near) & (census.distance < far)
        if members.any():
            shares = (float(ego_sees[members].mean()), float(together[members].mean()))
            bins.append(DistanceBin(float(near), float(far), int(members.sum()), *shares))
    names, numbers = np.unique(census.kinds, return_counts=True)
    return Statistics(
        frames=len(census.counts),
        boxes=len(census.distance),
        boxes_per_frame=(int(census.counts.min()), float(np.median(census.counts)), int(census.counts.max())),
        only_others_share=float((~ego_sees & others_see).mean()),
        ego_share=float(ego_sees.mean()),
        by_distance=tuple(bins),
        headings=tuple(np.histogram(census.heading, bins=12, range=(-np.pi, np.pi))[0].tolist()),
        size_low=tuple(np.percentile(census.size, 5, axis=0).round(2).tolist()),
        size_high=tuple(np.percentile(census.size, 95, axis=0).round(2).tolist()),
        kinds=dict(zip(names.tolist(), numbers.tolist(), strict=True)),
    )


def table(figures: Statistics) -> str:
    """The figures as a table for a terminal."""
    low, middle, high = figures.boxes_per_frame
    lines = [
        f"frames {figures.frames}, boxes {figures.boxes}, per frame {low} to {high} (median {middle:g})",
        f"fewer than {ENOUGH_POINTS} points from the ego, {ENOUGH_POINTS} or more from others: "
        f"{figures.only_others_share:.1%} of the boxes",
        "distance from ego   boxes   seen by ego alone   seen together",
    ]
    lines += [
        f"{b.near:6.0f} - {b.far:3.0f} m {b.boxes:12d} {b.ego_share:19.1%} {b.together_share:15.1%}"
        for b in figures.by_distance
    ]
    lines += [
        f"all {figures.boxes:21d} {figures.ego_share:19.1%}",
        "headings in the ego frame, boxes per 30 degrees from -180: " + " ".join(map(str, figures.headings)),
        "size (5 % to 95 %): "
        + ", ".join(
            f"{name} {a:g}-{b:g} m"
            for name, a, b in zip(("length", "width", "height"), figures.size_low, figures.size_high, strict=True)
        ),
        "shapes: " + ", ".join(f"{kind} {count}" for kind, count in figures.kinds.items()),
    ]
    return "\n".join(lines)


def _planar_distance(a: AgentView, b: AgentView) -> float:
    return float(np.linalg.norm(a.sensor_pose[:2] - b.sensor_pose[:2]))
