from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.errors import ConfigError
from opencood.geometry.poses import x_to_world
from opencood.simulation.bodies import Material, draw_body
from opencood.simulation.boxes import NO_OWNER, Boxes, PartTable, town_boxes
from opencood.simulation.camera.appearance import Appearance, draw_appearance
from opencood.simulation.camera.crew import CameraCrew
from opencood.simulation.camera.model import CAR_MOUNTS, ROADSIDE_MOUNTS, CameraModel, camera_poses
from opencood.simulation.camera.photograph import Photographer, developed, look
from opencood.simulation.camera.trace_kernel import NEAR
from opencood.simulation.camera.visibility import CENTRE, METRES_PER_PIXEL
from opencood.simulation.lidar import LidarModel, cast
from opencood.simulation.ray_kernel import GROUND, NOTHING
from opencood.simulation.ray_plain import first_met
from opencood.simulation.roads import draw_roads

SMALL = CameraModel(48, 36)
LIDAR_POSE = np.array([4.0, -3.0, 1.9, 0.7])


def random_boxes(seed: int, count: int) -> Boxes:
    rng = np.random.default_rng(seed)
    bottom = rng.uniform(0, 3, count) * (rng.random(count) < 0.5)
    geometry = np.column_stack(
        [
            rng.uniform(-25, 25, (count, 2)), rng.uniform(-7, 7, count), rng.uniform(0.05, 6, (count, 2)),
            bottom, bottom + rng.uniform(0.1, 6, count), np.ones(count),
        ]
    )  # fmt: skip
    return Boxes(geometry, np.full(count, int(Material.CONCRETE)), np.full(count, NO_OWNER))


def directions(model: CameraModel, pose: np.ndarray) -> np.ndarray:
    """Rays (H, W, 3) in the world whose component along the optical axis is 1, from the pinhole equation alone."""
    u, v = np.meshgrid(np.arange(model.width) + 0.5, np.arange(model.height) + 0.5)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(model.intrinsic).T
    right, down, forward = pixels.transpose(2, 0, 1)
    return np.stack([forward, right, -down], axis=-1) @ x_to_world(pose)[:3, :3].T


class Street:
    """A car, a truck behind a wall, open ground; seen from ``LIDAR_POSE`` at rest."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.bodies = [draw_body(kind, rng) for kind in ("sedan", "truck", "pedestrian", "hatchback")]
        # Relative to the LiDAR: a car 12 m ahead, a truck behind a wall, a pedestrian to the right, a car behind.
        self.places = np.array([[12.0, 0.5, 0.3], [-2.0, -22.0, 1.0], [3.0, 9.0, 0.0], [-14.0, 1.0, 0.0]])
        x, y, _, heading = LIDAR_POSE
        cos, sin = np.cos(heading), np.sin(heading)
        ahead, right = self.places[:, 0], self.places[:, 1]
        self.poses = np.column_stack(
            [x + ahead * cos - right * sin, y + ahead * sin + right * cos, heading + self.places[:, 2]]
        )
        self.town = town_boxes([self._world_wall(-2.0, -14.0, 9.0, 0.5, 8.0)], Material.CONCRETE)
        self.boxes = self.town + PartTable.of(self.bodies).placed(self.poses, np.ones(4, dtype=bool))
        self.footprints = np.column_stack([self.poses, [body.half_size[:2] for body in self.bodies]])
        self.appearance = draw_appearance(draw_roads(rng), self.town, self.bodies, np.random.default_rng(2))

    @staticmethod
    def _world_wall(ahead: float, right: float, half_length: float, half_width: float, top: float) -> tuple[float, ...]:
        x, y, _, heading = LIDAR_POSE
        cos, sin = np.cos(heading), np.sin(heading)
        place = (x + ahead * cos - right * sin, y + ahead * sin + right * cos)
        return (*place, heading, half_length, half_width, 0.0, top, 1.0)

    def shoot(self, model: CameraModel = SMALL, seed: int = 0, appearance: Appearance | None = None):
        crew = CameraCrew(model, appearance or self.appearance, self.boxes, self.footprints)
        return crew.shoot(LIDAR_POSE, CAR_MOUNTS, NO_OWNER, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def street() -> Street:
    return Street()


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6), st.integers(0, 25), st.floats(0.3, 9), st.floats(-180, 180), st.floats(-60, 40),
    st.floats(-20, 20), st.floats(20, 130),
)  # fmt: skip
def test_pixels_agree_with_the_plain_twin(seed, count, height, yaw, pitch, roll, fov):
    boxes, pose = random_boxes(seed, count), np.array([1.0, -2.0, height, roll, yaw, pitch])
    model = CameraModel(40, 30, fov)

    sight = look(model, pose, boxes, NO_OWNER)
    depth, hit = first_met(boxes.geometry, pose[:3], directions(model, pose), 1e9)

    far = depth > 1.01 * NEAR  # what is closer is inside the lens
    assert np.minimum(sight.depth, 1e9)[far] == pytest.approx(depth[far], rel=1e-9)
    assert ((sight.hit != hit) & far).mean() < 0.01  # where two surfaces are met at once, either may be named
    assert ((sight.hit == NOTHING) == (hit == NOTHING))[far].all()


def test_the_sky_is_infinitely_far():
    sight = look(SMALL, np.array([0, 0, 2.0, 0, 0, 0]), town_boxes([], Material.CONCRETE), NO_OWNER)
    assert (sight.hit[:18] == NOTHING).all() and np.isinf(sight.depth[:18]).all()
    assert (sight.hit[18:] == GROUND).all() and np.isfinite(sight.depth[18:]).all()


def test_own_body_is_not_in_the_picture(street):
    pose = np.array([*street.poses[0, :2], 0.8, 0, 0, 0])
    hit = street.boxes.owner[look(SMALL, pose, street.boxes, own=0).hit]
    assert (hit != 0).all()


def test_depth_agrees_with_the_lidar_to_5_cm(street):
    model = CameraModel(320, 240)
    lidar = LidarModel(beams=32, azimuths=720)
    azimuths = np.arange(720) * 2 * np.pi / 720
    scan = cast(street.boxes, NO_OWNER, LIDAR_POSE[:3], azimuths, lidar.slopes, 60.0)
    column, beam = np.nonzero(scan.hit >= 0)
    planar = scan.distance[column, beam] / np.sqrt(1 + lidar.slopes[beam] ** 2)
    points = LIDAR_POSE[:3] + np.column_stack(
        [planar * np.cos(azimuths[column]), planar * np.sin(azimuths[column]), planar * lidar.slopes[beam]]
    )
    seen = scan.hit[column, beam]
    compared = 0
    views, _ = street.shoot(model)
    for view in views:
        sight = look(model, view.pose, street.boxes, NO_OWNER)
        forward, right, up = (np.c_[points, np.ones(len(points))] @ np.linalg.inv(x_to_world(view.pose)).T)[:, :3].T
        u = model.width / 2 + model.focal * right / forward - 0.5
        v = model.height / 2 - model.focal * up / forward - 0.5
        inside = (forward > 0.5) & (u > 0) & (u < model.width - 1) & (v > 0) & (v < model.height - 1)
        u, v = u[inside], v[inside]
        four = (np.floor(v).astype(int) + [[0], [0], [1], [1]], np.floor(u).astype(int) + [[0], [1], [0], [1]])
        surface = sight.hit[four] * 6 + sight.face[four]
        visible = (surface == surface[0]).all(axis=0) & (sight.hit[four][0] == seen[inside])
        there = interpolated(view.depth[four], u, v)
        near_same_face = np.abs(there - forward[inside]) < 0.5  # the LiDAR may have met another face of the box
        gap = np.abs(there - forward[inside])[visible & near_same_face]
        assert (gap < 0.05).all()
        compared += len(gap)
    assert compared > 400


def interpolated(four: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth at (u, v) from those of four neighbouring pixels (4, n); planes are linear in its inverse."""
    s, t = u - np.floor(u), v - np.floor(v)
    inverse = (1 - s) * (1 - t) / four[0] + s * (1 - t) / four[1] + (1 - s) * t / four[2] + s * t / four[3]
    with np.errstate(divide="ignore"):
        return 1 / inverse


def test_pictures_show_the_things_in_their_own_colours(street):
    views, _ = street.shoot(CameraModel(200, 150))
    front = views[0]
    assert front.image.shape == (150, 200, 3) and front.image.dtype == np.uint8
    assert all(view.image.std() > 15 for view in views)
    assert 40 < np.mean([view.image.mean() for view in views]) < 200
    coats = street.appearance.bodies
    assert len({tuple(colour) for colour in coats.colour}) == len(street.bodies)
    red = replace(coats, colour=np.tile([0.6, 0.02, 0.02], (4, 1)))
    painted, _ = street.shoot(CameraModel(200, 150), appearance=replace(street.appearance, bodies=red))
    sight = look(CameraModel(200, 150), front.pose, street.boxes, NO_OWNER)
    car = (sight.hit >= 0) & (street.boxes.owner[sight.hit] == 0)
    assert car.sum() > 60
    redness = [np.median(v.image[car][:, 0].astype(float) - v.image[car][:, 1]) for v in (front, painted[0])]
    assert redness[1] > redness[0] + 40
    assert np.abs(front.image[~car].astype(int) - painted[0].image[~car]).mean() < 25


def test_pictures_repeat_with_the_generator_and_have_noise(street):
    one, two, other = (street.shoot(seed=seed)[0] for seed in (3, 3, 4))
    assert all((a.image == b.image).all() for a, b in zip(one, two, strict=True))
    assert all((a.image != b.image).mean() > 0.2 for a, b in zip(one, other, strict=True))
    assert all((a.depth == b.depth).all() for a, b in zip(one, other, strict=True))


def test_noise_grows_with_the_light():
    light = np.full((64, 64, 3), 0.05, np.float32)
    light[:, 32:] = 0.5
    picture = developed(light, np.ones((64, 64), dtype=bool), np.random.default_rng(0)).astype(float) / 255
    linear = picture**2.2
    middle = slice(24, 40)
    assert linear[middle, 4:28].std() < linear[middle, 36:60].std()
    assert linear[middle, 4:28].mean() < 0.5 * linear[middle, 36:60].mean()


def test_a_wall_throws_its_shadow_away_from_the_sun(street):
    sun = street.appearance.light.to_sun
    planar = sun[:2] / np.hypot(*sun[:2])
    heading = np.arctan2(planar[1], planar[0])
    wall = town_boxes([(0.0, 0.0, heading, 0.3, 6.0, 0.0, 3.0, 1.0)], Material.CONCRETE)
    appearance = draw_appearance(draw_roads(np.random.default_rng(5)), wall, [], np.random.default_rng(6))
    light = replace(appearance.light, to_sun=sun, sun=np.array([2.0, 2.0, 2.0]))
    photographer = Photographer(replace(appearance, light=light), wall, np.zeros((0, 3)))
    brightness = []
    for side in (-1, 1):  # the ground beside the wall, from straight above
        pose = np.array([*(side * 1.0 * planar), 4.0, 0.0, 0.0, -89.9])
        sight = look(CameraModel(32, 32, 10.0), pose, wall, NO_OWNER)
        assert (sight.hit == GROUND).all()
        brightness.append(photographer.radiance(CameraModel(32, 32, 10.0), pose, sight).mean())
    assert brightness[0] < 0.6 * brightness[1]


def cell(ahead: float, right: float) -> tuple[int, int]:
    return CENTRE - int(ahead / METRES_PER_PIXEL), CENTRE + int(right / METRES_PER_PIXEL)


def test_visibility_is_what_the_cameras_see(street):
    _, visible = street.shoot(CameraModel(320, 240))
    assert visible.shape == (256, 256) and visible.dtype == np.uint8
    for number in (0, 2, 3):
        assert visible[cell(*street.places[number, :2])] > 0
    assert not visible[cell(*street.places[1, :2])]  # the truck behind the wall
    assert visible[cell(8.0, -1.5)] and visible[cell(-8.0, 3.0)]  # open ground
    assert not visible[cell(-2.0, -16.5)]  # ground behind the wall
    assert not visible[cell(20.0, 0.8)]  # ground behind the car


def test_mounts_are_those_of_opv2v():
    poses = camera_poses(LIDAR_POSE, CAR_MOUNTS)
    forward = [x_to_world(pose)[:3, 0] for pose in poses]
    turns = [np.degrees(np.arctan2(d[1], d[0]) - LIDAR_POSE[3]) for d in forward]
    assert (np.array(turns) + 180) % 360 - 180 == pytest.approx([0, 100, -100, -180])
    assert poses[:, 2] == pytest.approx(LIDAR_POSE[2] + CAR_MOUNTS[:, 2])
    assert (camera_poses(LIDAR_POSE, ROADSIDE_MOUNTS)[:, 5] < -10).all()


@pytest.mark.parametrize(("wrong", "key"), [({"width": 8}, "size"), ({"fov": 170.0}, "fov"), ({"fov": 5.0}, "fov")])
def test_impossible_cameras_are_refused(wrong, key):
    with pytest.raises(ConfigError, match=key):
        CameraModel(**wrong)
