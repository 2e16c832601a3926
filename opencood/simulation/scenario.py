"""One scenario: a town, its traffic, a group of connected agents, and the frames they record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from opencood.errors import DataError
from opencood.simulation.boxes import NO_OWNER, Boxes
from opencood.simulation.camera.appearance import draw_appearance
from opencood.simulation.camera.crew import CameraCrew
from opencood.simulation.camera.model import CAR_MOUNTS, ROADSIDE_MOUNTS, CameraModel
from opencood.simulation.ground_maps import ground_maps
from opencood.simulation.lidar import LidarModel, sweep
from opencood.simulation.recording import AgentView, Frame, Objects
from opencood.simulation.traffic import Traffic
from opencood.simulation.world import World, draw_world

ROADSIDE_ID = -1  # of the first roadside unit; the second one is -2
# The sensor sits half a metre behind the middle of the car, where the published own-body mask expects it.
_SENSOR_OFFSET, SENSOR_HEIGHT = -0.5, 1.9
_CARS = frozenset({"hatchback", "sedan", "suv"})
_NEAR_JUNCTION, _GROUP_RADIUS, _APART = 50.0, 52.0, 12.0
# Every agent starts with some vehicles around, so that no frame is nearly empty.
_CROWD, _CROWD_RADIUS = 9, 42.0
_ATTEMPTS = 40
# Streams of randomness beside that of the world, so that more sensors change nothing of the others.
_LOOKS, _CAMERAS, _FEWER_BEAMS = 1, 2, 3
_AGENTS = 1 << 32  # ids of roadside units are negative, which a generator does not take


@dataclass(frozen=True)
class ScenarioPlan:
    """Everything that decides a scenario's content.

    Attributes:
        split, name: where it belongs.
        seed: entropy of its generator.
        frames: number of frames, ``stride`` ticks (of 0.1 s) apart.
        agents: smallest and largest number of connected cars.
        roadside: number of roadside units, at most two.
        vehicles, pedestrians: smallest and largest number of movers.
        lidar: the agents' sensor.
        camera: the agents' cameras, or None.
        fewer_beams: numbers of beams of further LiDARs at the same place.
        first: number of frames in the scenarios before this one.
        road_type: see ``roads.ROAD_TYPES``.
        sensor_height: of the cars' LiDARs above the ground, metres.
    """

    split: str
    name: str
    seed: tuple[int, ...]
    frames: int
    stride: int
    agents: tuple[int, int]
    roadside: int
    vehicles: tuple[int, int]
    pedestrians: tuple[int, int]
    lidar: LidarModel
    camera: CameraModel | None = None
    fewer_beams: tuple[int, ...] = ()
    first: int = 0
    road_type: str = "mixed"
    sensor_height: float = SENSOR_HEIGHT


class Scenario:
    """A scenario ready to be played once.

    Raises:
        DataError: no town drawn from the seed brings enough connected cars together.
    """

    def __init__(self, plan: ScenarioPlan) -> None:
        self.plan = plan
        self._rng = np.random.default_rng(plan.seed)
        for _ in range(_ATTEMPTS):
            self.world = draw_world(self._rng, plan.road_type)
            self._traffic = self._warm_traffic()
            self._connected = _choose_connected(self._traffic, plan.agents, self._rng)
            if len(self._connected) >= plan.agents[0]:
                break
        else:
            raise DataError(
                f"scenario {plan.name}: no junction with {plan.agents[0]} connected cars near each other in traffic "
                f"in {_ATTEMPTS} attempts. Ask for fewer --agents."
            )
        self._traffic.connected[self._connected] = True
        self._start = int(self._rng.integers(30, 80))
        self._appearance = draw_appearance(
            self.world.roads, self.world.town, self._traffic.bodies, np.random.default_rng((*plan.seed, _LOOKS))
        )

    @property
    def world_digest(self) -> str:
        """Fingerprint of the static world."""
        return world_digest(self.world)

    def frames(self) -> Iterator[Frame]:
        """Play the scenario, once."""
        for number in range(self.plan.frames):
            if number:
                for _ in range(self.plan.stride):
                    self._traffic.step()
            yield self._record(self._start + number * self.plan.stride)

    def _warm_traffic(self) -> Traffic:
        plan, rng = self.plan, self._rng
        vehicles = int(rng.integers(plan.vehicles[0], plan.vehicles[1] + 1))
        pedestrians = int(rng.integers(plan.pedestrians[0], plan.pedestrians[1] + 1))
        traffic = Traffic(self.world, vehicles, pedestrians, rng)
        for _ in range(int(rng.integers(25, 75))):
            traffic.step()
        return traffic

    def _record(self, tick: int) -> Frame:
        traffic = self._traffic
        rows = np.flatnonzero(traffic.present)
        objects = Objects(
            ids=traffic.ids[rows],
            kinds=tuple(traffic.bodies[row].kind for row in rows),
            poses=traffic.poses[rows],
            half_sizes=traffic.half_sizes[rows],
            speed=traffic.speed[rows],
            is_vehicle=traffic.is_vehicle[rows],
        )
        boxes = self.world.town + traffic.boxes()
        views = [self._view_from_car(row, rows, boxes) for row in self._connected]
        views += [self._view_from_pole(number, rows, boxes) for number in range(self.plan.roadside)]
        views = [self._with_fewer_beams(view, tick, boxes) for view in views]
        if self.plan.camera:
            crew = CameraCrew(self.plan.camera, self._appearance, boxes, traffic.footprints)
            seen = rows[sum(view.hits for view in views) > 0]
            views = [self._with_ground(self._with_cameras(view, tick, crew), rows, seen) for view in views]
        return Frame(tick, objects, tuple(views))

    def _with_fewer_beams(self, view: AgentView, tick: int, boxes: Boxes) -> AgentView:
        """The view with the clouds of further LiDARs."""
        own, rng = self._own_row(view), self._stream(_FEWER_BEAMS, tick, view)
        models = [replace(self.plan.lidar, beams=beams) for beams in self.plan.fewer_beams]
        place, heading = view.sensor_pose[:3], float(view.sensor_pose[3])
        clouds = {model.beams: sweep(model, boxes, own, place, heading, rng).points for model in models}
        return replace(view, fewer_beams=clouds)

    def _with_cameras(self, view: AgentView, tick: int, crew: CameraCrew) -> AgentView:
        """The view with pictures and with what they show."""
        mounts = ROADSIDE_MOUNTS if view.agent_id < 0 else CAR_MOUNTS
        cameras, visibility = crew.shoot(
            view.sensor_pose, mounts, self._own_row(view), self._stream(_CAMERAS, tick, view)
        )
        return replace(view, cameras=cameras, visibility=visibility)

    def _with_ground(self, view: AgentView, rows: np.ndarray, seen: np.ndarray) -> AgentView:
        """The view with maps of what is around it; ``seen`` are the bodies that any agent's LiDAR hits."""
        traffic = self._traffic
        vehicles = rows[traffic.is_vehicle[rows] & (rows != self._own_row(view))]
        maps = ground_maps(self.world.roads, traffic.footprints[vehicles], np.isin(vehicles, seen), view.sensor_pose)
        return replace(view, ground=maps)

    def _own_row(self, view: AgentView) -> int:
        """The body of an agent."""
        rows = np.flatnonzero(self._traffic.present & (self._traffic.ids == view.agent_id))
        return int(rows[0]) if len(rows) else NO_OWNER

    def _stream(self, purpose: int, tick: int, view: AgentView) -> np.random.Generator:
        return np.random.default_rng((*self.plan.seed, purpose, tick, view.agent_id % _AGENTS))

    def _view_from_car(self, row: int, rows: np.ndarray, boxes: Boxes) -> AgentView:
        traffic = self._traffic
        x, y, heading = traffic.poses[row]
        place = (x + _SENSOR_OFFSET * np.cos(heading), y + _SENSOR_OFFSET * np.sin(heading), self.plan.sensor_height)
        return self._view(
            int(traffic.ids[row]), row, np.array([x, y, 0.0, heading]), np.array([*place, heading]),
            float(traffic.speed[row]), rows, boxes, traffic.plan(row),
        )  # fmt: skip

    def _view_from_pole(self, number: int, rows: np.ndarray, boxes: Boxes) -> AgentView:
        x, y, heading = self.world.poles[number]
        foot = np.array([x, y, 0.0, heading])
        return self._view(
            ROADSIDE_ID - number, NO_OWNER, foot, foot + [0, 0, self.world.pole_height, 0], 0.0, rows, boxes,
            np.zeros((0, 3)),
        )  # fmt: skip

    def _view(
        self,
        agent_id: int,
        own_row: int,
        body_pose: np.ndarray,
        sensor_pose: np.ndarray,
        speed: float,
        rows: np.ndarray,
        boxes: Boxes,
        plan: np.ndarray,
    ) -> AgentView:
        scan = sweep(self.plan.lidar, boxes, own_row, sensor_pose[:3], float(sensor_pose[3]), self._rng)
        on_body = np.bincount(scan.owner[scan.owner != NO_OWNER], minlength=len(self._traffic.bodies))
        return AgentView(agent_id, body_pose, sensor_pose, speed, scan.points, on_body[rows], plan)


def world_digest(world: World) -> str:
    """Fingerprint (sha256) of the roads, the town and the parked vehicles."""
    digest = hashlib.sha256()
    for array in (world.lanes.points, world.town.geometry, world.town.material, world.parked_poses, world.poles):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _choose_connected(traffic: Traffic, wanted: tuple[int, int], rng: np.random.Generator) -> list[int]:
    """Rows of connected cars: near the junction, near each other, but as spread over its arms as possible."""
    count = int(rng.integers(wanted[0], wanted[1] + 1))
    is_car = np.array([body.kind in _CARS for body in traffic.bodies])
    from_centre = np.linalg.norm(traffic.poses[:, :2] - traffic.world.roads.centre, axis=1)
    # In the middle of the junction a car sees every arm and needs nobody's help.
    on_an_arm = (from_centre > traffic.world.roads.mouth) & (from_centre < _NEAR_JUNCTION)
    candidates = np.flatnonzero(traffic.present & traffic.is_mover & is_car & on_an_arm)
    if not len(candidates):
        return []
    places = traffic.poses[candidates, :2]
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    chosen = [int(rng.integers(len(candidates)))]
    while len(chosen) < count:
        nearest, farthest = apart[:, chosen].min(axis=1), apart[:, chosen].max(axis=1)
        score = np.where(farthest <= _GROUP_RADIUS, nearest, -1.0)
        best = int(score.argmax())
        if score[best] < _APART:
            break
        chosen.append(best)
    around = np.linalg.norm(traffic.poses[:, None, :2] - places[chosen], axis=-1) < _CROWD_RADIUS
    crowd = (around & (traffic.present & traffic.is_vehicle)[:, None]).sum(axis=0)
    return candidates[chosen].tolist() if crowd.min() >= _CROWD else []
