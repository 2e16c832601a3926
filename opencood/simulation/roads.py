"""The road plan: a junction with three or four arms, lanes, parking strips and footways.

Traffic keeps right. In UE axes (y right) the right-hand side of heading ``h`` is ``h + 90 degrees``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opencood.simulation.paths import Paths, Route, hermite

LANE_WIDTH = 3.5
PARKING_WIDTH = 2.6
FOOTWAY_WIDTH = 3.0
_CROSSWALK = 2.0
_STOP_LINE = 4.5
_STRAIGHT = np.radians(45)


def unit(heading: float) -> np.ndarray:
    """Unit vector (2,) of a heading in rad."""
    return np.array([np.cos(heading), np.sin(heading)])


@dataclass(frozen=True)
class Roads:
    """A junction and its arms.

    Attributes:
        centre: (2,) world position of the junction.
        arms: headings (rad) of the arms, outward, ascending.
        lanes: lanes per direction, the same on all arms.
        length: metres from the centre to the end of each arm.
    """

    centre: np.ndarray
    arms: tuple[float, ...]
    lanes: int
    length: float

    @property
    def carriageway(self) -> float:
        """Half width of the driven part, metres."""
        return self.lanes * LANE_WIDTH

    @property
    def kerb(self) -> float:
        """Half width up to the kerb (with the parking strip), metres."""
        return self.carriageway + PARKING_WIDTH

    @property
    def corridor(self) -> float:
        """Half width up to the front gardens (with the footway), metres."""
        return self.kerb + FOOTWAY_WIDTH

    @property
    def mouth(self) -> float:
        """Distance from the centre at which the arms no longer overlap, metres."""
        gaps = np.diff([*self.arms, self.arms[0] + 2 * np.pi])
        return self.kerb / np.tan(min(gaps.min(), np.pi / 2) / 2) + 1.0

    def place(self, arm: int, along: float, across: float) -> np.ndarray:
        """World point ``along`` an arm from the centre and ``across`` to the right of its outward heading, metres."""
        heading = self.arms[arm]
        return self.centre + along * unit(heading) + across * unit(heading + np.pi / 2)

    def corridors(self) -> np.ndarray:
        """Rectangles (K, 5) that no building may touch."""
        rows = [
            (*self.place(k, self.length / 2, 0.0), heading, self.length / 2, self.corridor)
            for k, heading in enumerate(self.arms)
        ]
        return np.array(rows)


# Road type -> junction and lanes per direction; None: drawn.
ROAD_TYPES: dict[str, tuple[str | None, int | None]] = {
    "mixed": (None, None),
    "streets": ("tee", 1),
    "forks": ("fork", 1),
    "avenues": ("cross", 2),
}


def draw_roads(rng: np.random.Generator, road_type: str = "mixed") -> Roads:
    """Draw a junction: anywhere, turned anyhow, three or four arms that are not quite square.

    Args:
        road_type: a key of :data:`ROAD_TYPES`.
    """
    wanted_kind, wanted_lanes = ROAD_TYPES[road_type]
    kind = rng.choice(["cross", "tee", "fork"], p=[0.5, 0.25, 0.25])
    kind = wanted_kind or kind
    regular = np.arange(3) * 2 * np.pi / 3 if kind == "fork" else np.arange(4) * np.pi / 2
    arms = rng.uniform(-np.pi, np.pi) + regular + np.radians(rng.uniform(-15, 15, size=len(regular)))
    if kind == "tee":
        arms = np.delete(arms, rng.integers(4))
    centre, lanes = rng.uniform(-250, 250, size=2), int(rng.choice([1, 2], p=[0.8, 0.2]))
    return Roads(centre=centre, arms=tuple(arms.tolist()), lanes=wanted_lanes or lanes, length=72.0)


def lane_paths(roads: Roads) -> Paths:
    """Every way for a vehicle through the junction: right turns from the right lane, left turns from the left one."""
    count = len(roads.arms)
    routes = []
    for source in range(count):
        for target in (k for k in range(count) if k != source):
            turn = _wrap(roads.arms[target] - roads.arms[source] - np.pi)
            lanes = range(roads.lanes) if abs(turn) < _STRAIGHT else [roads.lanes - 1 if turn > 0 else 0]
            routes += [_drive(roads, source, target, lane) for lane in lanes]
    return Paths.of(routes)


def _drive(roads: Roads, source: int, target: int, lane: int) -> Route:
    offset = (lane + 0.5) * LANE_WIDTH
    begin, enter = roads.place(source, roads.length, -offset), roads.place(source, roads.mouth, -offset)
    leave, end = roads.place(target, roads.mouth, offset), roads.place(target, roads.length, offset)
    curve = hermite(enter, roads.arms[source] + np.pi, leave, roads.arms[target])
    return Route(
        points=np.concatenate([begin[None], curve, end[None]]),
        stop=roads.length - roads.mouth - _STOP_LINE,
        arm=source,
    )


def foot_paths(roads: Roads) -> Paths:
    """Footways along both sides of every arm, and ways that change sides on the zebra crossing.

    Whoever walks the other way has a line of their own, so that nobody meets head-on.
    """
    far, near = roads.length - 4, roads.mouth + _CROSSWALK
    routes = []
    for arm in range(len(roads.arms)):
        for side in (-1, 1):
            inner, outer = side * (roads.kerb + 0.5), side * (roads.kerb + 1.55)
            routes.append(Route(np.array([roads.place(arm, near - 1, inner), roads.place(arm, far, inner)])))
            routes.append(Route(np.array([roads.place(arm, far, outer), roads.place(arm, near - 1, outer)])))
            line = near + side * 0.5
            across = [(far, inner), (line, inner), (line, -outer), (line - 1, -outer)]
            points = np.array([roads.place(arm, along, offset) for along, offset in across])
            routes.append(Route(points, stop=far - line + 0.4, arm=arm))
    return Paths.of(routes)


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
