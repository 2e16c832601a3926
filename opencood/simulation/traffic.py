"""Who is on the road and how they move: car following, lights, turning, footways; no two bodies ever overlap."""

from __future__ import annotations

import numpy as np

from opencood.simulation import rectangles
from opencood.simulation.bodies import PEDESTRIAN_SHAPES, TRAFFIC_MIX, Body, draw_body, draw_vehicle
from opencood.simulation.boxes import Boxes, PartTable
from opencood.simulation.paths import Paths
from opencood.simulation.world import World

TICK = 0.1
_ACCELERATION, _BRAKING, _HEADWAY, _STANDSTILL = 2.0, 3.0, 1.1, 2.0
_HARDEST_BRAKING = 7.0
_GREEN, _CYCLE = 6.0, 7.5
_SAMPLES = np.arange(0.25, 30, 1.25)
_PEDESTRIAN_SIGHT = 2.0
_CLEARANCE = 0.25
_ROAD_START, _END_OF_ROAD = 3.0, 3.0


class Traffic:
    """All bodies of a world: movers (vehicles, pedestrians) first, then the parked ones; a *row* is a place in these.

    Attributes:
        bodies: what each row looks like.
        poses: (N, 3) x, y, yaw (rad).
        speed: (N,) m/s.
        ids: (N,) object ids; a mover that left and came back is a new object.
        present: (N,) bool, whether a row is in the world at all now.
        connected: (N,) bool; connected cars stop at the end of their road instead of leaving.
    """

    def __init__(self, world: World, vehicles: int, pedestrians: int, rng: np.random.Generator) -> None:
        movers = [draw_vehicle(TRAFFIC_MIX, rng) for _ in range(vehicles)]
        movers += [draw_body(str(rng.choice(list(PEDESTRIAN_SHAPES))), rng) for _ in range(pedestrians)]
        self.world, self._rng, self._time = world, rng, float(rng.uniform(0, 60))
        self.bodies: tuple[Body, ...] = (*movers, *world.parked)
        self._movers = len(movers)
        total = len(self.bodies)
        self.half_sizes = np.array([body.half_size for body in self.bodies])
        self.is_vehicle = np.array([body.is_vehicle for body in self.bodies])
        self._cruise = np.array([body.cruise_speed for body in self.bodies])
        self._table = PartTable.of(self.bodies)
        self._free_ids = iter(rng.permutation(np.arange(200, 4000)).tolist())

        self.ids = np.array([next(self._free_ids) for _ in range(total)])
        self.poses = np.zeros((total, 3))
        self.poses[self._movers :] = world.parked_poses
        self.present = np.arange(total) >= self._movers
        self.connected = np.zeros(total, dtype=bool)
        self.speed = np.zeros(total)
        self._path = np.zeros(total, dtype=int)
        self._along = np.zeros(total)
        for row in range(self._movers):
            self._enter(row, anywhere=True)

    @property
    def footprints(self) -> np.ndarray:
        """Rectangles (N, 5) of all rows."""
        return np.column_stack([self.poses, self.half_sizes[:, :2]])

    @property
    def is_mover(self) -> np.ndarray:
        """(N,) bool: not parked."""
        return np.arange(len(self.bodies)) < self._movers

    def boxes(self) -> Boxes:
        """World boxes of everybody who is present; the owner is the row."""
        return self._table.placed(self.poses, self.present)

    def plan(self, row: int, count: int = 5, seconds: float = 0.4) -> np.ndarray:
        """Where a mover is heading: (count, 3) x, y, speed (m/s) at equal times ahead."""
        ahead = self._along[row] + self.speed[row] * seconds * np.arange(1, count + 1)
        points = self._paths(row).at(np.full(count, self._path[row]), ahead)
        return np.column_stack([points[:, :2], np.full(count, self.speed[row])])

    def step(self) -> None:
        """Advance the world by ``TICK`` seconds."""
        self._time += TICK
        for on_foot in (False, True):
            rows = np.flatnonzero(self.present & self.is_mover)
            self._move(rows[self.is_vehicle[rows] != on_foot])
        for row in range(self._movers):
            if self.present[row] and not self.connected[row] and self._left_to_go(row) < _END_OF_ROAD:
                self.present[row] = False
            if not self.present[row]:
                self._enter(row, anywhere=False)

    def _paths(self, row: int) -> Paths:
        return self.world.lanes if self.is_vehicle[row] else self.world.footways

    def _left_to_go(self, row: int) -> float:
        return float(self._paths(row).length[self._path[row]] - self._along[row])

    def _enter(self, row: int, anywhere: bool) -> None:
        """Put a mover on a free place of a random path, or leave it out if none is found soon."""
        paths = self._paths(row)
        for _ in range(20 if anywhere else 1):
            path = int(self._rng.integers(len(paths.length)))
            along = self._place_to_start(row, paths, path) if anywhere else _ROAD_START
            pose = paths.at(np.array([path]), np.array([along]))[0]
            footprint = np.array([[*pose, *self.half_sizes[row, :2]]])
            if rectangles.overlaps(footprint, self.footprints[self.present], margin=1.5).any():
                continue
            self._path[row], self._along[row], self.poses[row] = path, along, pose
            allowed = paths.limit_at(np.array([path]), np.array([along]))[0]
            to_line = paths.stop[path] - along - self.half_sizes[row, 0]
            stoppable = np.sqrt(_BRAKING * to_line) if to_line > 0 else np.inf
            self.speed[row] = min(0.7 * self._cruise[row], allowed, stoppable)
            self.ids[row], self.present[row] = next(self._free_ids), True
            return

    def _place_to_start(self, row: int, paths: Paths, path: int) -> float:
        """A random arc length, for a vehicle before or behind the junction."""
        if not self.is_vehicle[row]:
            return float(self._rng.uniform(0, paths.length[path] - _END_OF_ROAD))
        before = paths.stop[path] - self.half_sizes[row, 0] - 1
        if self._rng.random() < 0.6:
            return float(self._rng.uniform(_ROAD_START, before))
        return float(self._rng.uniform(self._junction_end(np.array(path)) + 6, paths.length[path] - _END_OF_ROAD - 1))

    def _junction_end(self, path: np.ndarray) -> np.ndarray:
        """Arc length at which a lane path has left the junction."""
        roads = self.world.roads
        return self.world.lanes.length[path] - (roads.length - roads.mouth)

    def _move(self, rows: np.ndarray) -> None:
        """Move vehicles or pedestrians, all at once, keeping those in place whose next pose would touch somebody."""
        if not len(rows):
            return
        paths, path = self._paths(rows[0]), self._path[rows]
        gap, leader_speed = self._gap_ahead(rows, paths)
        gap, leader_speed = self._obey_lights(rows, paths, gap, leader_speed)
        wanted = np.minimum(self._cruise[rows], paths.limit_at(path, self._along[rows] + 1.0))
        speed = np.clip(self.speed[rows] + TICK * _follow(self.speed[rows], wanted, gap, leader_speed), 0, None)
        along = np.minimum(self._along[rows] + speed * TICK, paths.length[path])
        self._commit(rows, along, speed, paths.at(path, along))

    def _gap_ahead(self, rows: np.ndarray, paths: Paths) -> tuple[np.ndarray, np.ndarray]:
        """Free distance (n,) along each mover's own path, and the speed of what ends it along that path."""
        front = self._along[rows] + self.half_sizes[rows, 0]
        ahead = paths.at(self._path[rows][:, None], front[:, None] + _SAMPLES)
        others = np.flatnonzero(self.present)
        margin = (self.half_sizes[rows, 1] + _CLEARANCE)[:, None, None]
        blocked: np.ndarray = rectangles.contains(self.footprints[others], ahead[..., :2], margin)
        blocked &= (others != rows[:, None])[:, None]
        sight = np.where(self.is_vehicle[rows], _SAMPLES[-1] + 1, _PEDESTRIAN_SIGHT)
        blocked &= (sight[:, None] >= _SAMPLES)[..., None]
        at_sample: np.ndarray = np.any(blocked, axis=2)
        first, found = at_sample.argmax(axis=1), np.any(at_sample, axis=1)
        number = np.arange(len(rows))
        leader = others[blocked[number, first].argmax(axis=1)]
        turn = self.poses[leader, 2] - ahead[number, first, 2]
        leader_speed = np.clip(self.speed[leader] * np.cos(turn), 0, None)
        gap = np.where(found, _SAMPLES[first], np.inf)
        road_end = paths.length[self._path[rows]] - front
        ends_first = self.connected[rows] & (road_end < gap)
        return np.where(ends_first, road_end, gap), np.where(ends_first | ~found, 0.0, leader_speed)

    def _obey_lights(
        self, rows: np.ndarray, paths: Paths, gap: np.ndarray, leader_speed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Treat a red light as a standing leader for those who can still stop in front of it.

        One arm at a time has green, then all pedestrians. Whoever has green still waits for those of other arms to
        leave the junction, so that crossing ways never lock.
        """
        phase, since = divmod(self._time, _CYCLE)
        turn = int(phase) % (len(self.world.roads.arms) + 1)
        path = self._path[rows]
        if self.is_vehicle[rows[0]]:
            go = (paths.arm[path] == turn) & (since < _GREEN) & ~self._others_in_junction(paths.arm[path])
        else:
            go = np.full(len(rows), turn == len(self.world.roads.arms))
        to_line = paths.stop[path] - self._along[rows] - self.half_sizes[rows, 0] + _STANDSTILL
        can_stop = to_line > self.speed[rows] ** 2 / (2 * _BRAKING) + 0.5 * _STANDSTILL
        red = ~go & can_stop & (to_line < gap)
        return np.where(red, to_line, gap), np.where(red, 0.0, leader_speed)

    def _others_in_junction(self, arm: np.ndarray) -> np.ndarray:
        """Whether a vehicle that came from another arm than ``arm`` (n,) is still in the junction: (n,) bool."""
        rows = np.flatnonzero(self.present & self.is_mover & self.is_vehicle)
        path, half = self._path[rows], self.half_sizes[rows, 0]
        entered = self._along[rows] + half > self.world.lanes.stop[path] + 1.0
        inside = entered & (self._along[rows] - half < self._junction_end(path))
        return (inside & (self.world.lanes.arm[path] != arm[:, None])).any(axis=1)

    def _commit(self, rows: np.ndarray, along: np.ndarray, speed: np.ndarray, poses: np.ndarray) -> None:
        """Take over next poses; rows that would touch a lower row, or anybody who stands, stay where they are.

        Old poses never touch each other, so holding rows back until nobody touches always ends.
        """
        held = np.zeros(len(rows), dtype=bool)
        present = np.flatnonzero(self.present)
        gives_way = np.isin(present, rows, invert=True) | (present < rows[:, None])
        while True:
            footprints = self.footprints
            footprints[rows[~held], :3] = poses[~held]
            touching = rectangles.overlaps(footprints[rows], footprints[present]) & (present != rows[:, None])
            newly_held = (touching & (gives_way | np.isin(present, rows[held]))).any(axis=1) & ~held
            if not newly_held.any():
                break
            held |= newly_held
        self.speed[rows] = np.where(held, 0.0, speed)
        self._along[rows] = np.where(held, self._along[rows], along)
        self.poses[rows] = np.where(held[:, None], self.poses[rows], poses)


def _follow(speed: np.ndarray, wanted: np.ndarray, gap: np.ndarray, leader_speed: np.ndarray) -> np.ndarray:
    """Acceleration (n,) m/s^2 of the intelligent driver model (Treiber, Hennecke, Helbing 2000)."""
    closing = speed * (speed - leader_speed) / (2 * np.sqrt(_ACCELERATION * _BRAKING))
    distance = _STANDSTILL + np.clip(speed * _HEADWAY + closing, 0, None)
    interaction = (distance / np.maximum(gap, 0.3)) ** 2
    return np.clip(_ACCELERATION * (1 - (speed / wanted) ** 4 - interaction), -_HARDEST_BRAKING, None)
