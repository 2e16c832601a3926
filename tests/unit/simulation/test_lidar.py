import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.simulation.bodies import Material
from opencood.simulation.boxes import NO_OWNER, Boxes, town_boxes
from opencood.simulation.lidar import LidarModel, cast, sweep
from opencood.simulation.ray_kernel import GROUND, NOTHING
from opencood.simulation.ray_plain import cast_plain

AZIMUTHS = np.linspace(-np.pi, np.pi, 90, endpoint=False) + 0.013
SLOPES = LidarModel(beams=8, lowest=-30, highest=15).slopes


def random_boxes(seed: int, count: int) -> Boxes:
    rng = np.random.default_rng(seed)
    bottom = rng.uniform(0, 3, count) * (rng.random(count) < 0.5)
    geometry = np.column_stack(
        [
            rng.uniform(-30, 30, (count, 2)),
            rng.uniform(-7, 7, count),
            rng.uniform(0.05, 8, (count, 2)),
            bottom,
            bottom + rng.uniform(0.1, 6, count),
            rng.uniform(0.5, 1.5, count),
        ]
    )
    return Boxes(geometry, rng.integers(0, len(Material), count), np.arange(count))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(0, 25), st.floats(0.5, 8), st.floats(5, 80),
    st.floats(-3.2, 3.2), st.floats(-20, 20),
)  # fmt: skip
def test_rays_agree_with_the_plain_twin(seed, count, height, max_range, first_azimuth, x):
    boxes, origin = random_boxes(seed, count), np.array([x, 1.0, height])
    azimuths = AZIMUTHS + first_azimuth

    scan = cast(boxes, NO_OWNER, origin, azimuths, SLOPES, max_range)
    distance, hit = cast_plain(boxes.geometry, origin, azimuths, SLOPES, max_range)

    # Where two surfaces are met at the same distance, either may be named.
    assert scan.distance == pytest.approx(distance, abs=1e-9)
    tie = scan.hit != hit
    assert tie.mean() < 0.01
    assert ((hit == NOTHING) == (scan.hit == NOTHING)).all()


def test_an_empty_scene_is_ground_and_sky():
    scan = cast(town_boxes([], Material.CONCRETE), NO_OWNER, np.array([0, 0, 2.0]), AZIMUTHS, SLOPES, 50.0)

    assert set(np.unique(scan.hit)) == {GROUND, NOTHING}
    assert (scan.hit[:, SLOPES > 0] == NOTHING).all()
    assert (scan.distance[scan.hit == NOTHING] == pytest.approx(50.0)) and scan.distance.max() <= 50.0 + 1e-9


def test_a_wall_hides_what_is_behind_it():
    wall, car = (10, 0, 0, 0.1, 5, 0, 4, 1), (15, 0, 0, 2, 1, 0, 1.5, 1)
    both = town_boxes([wall, car], Material.CONCRETE)
    alone = town_boxes([car], Material.PAINT)
    origin = np.array([0, 0, 1.9])

    assert (cast(alone, NO_OWNER, origin, AZIMUTHS, SLOPES, 60.0).hit == 0).any()
    hit = cast(both, NO_OWNER, origin, AZIMUTHS, SLOPES, 60.0).hit
    assert (hit == 0).any() and not (hit == 1).any()


def test_own_body_is_not_seen():
    boxes = random_boxes(5, 4)
    own = boxes.geometry.copy()
    own[2] = (0, 0, 0.3, 2.2, 0.9, 0, 1.5, 1)
    boxes = Boxes(own, boxes.material, boxes.owner)
    scan = sweep(LidarModel(beams=16, azimuths=200), boxes, 2, np.array([-0.5, 0, 1.9]), 0.3, np.random.default_rng(0))

    assert 2 not in scan.owner
    assert len(set(scan.owner)) > 1


def test_sweep_lies_on_the_scene_in_the_sensor_frame():
    boxes = town_boxes([(12, 3, 0.5, 2, 1, 0, 1.6, 1)], Material.PAINT)
    boxes = Boxes(boxes.geometry, boxes.material, np.array([7]))
    origin, yaw = np.array([2, -1, 1.9]), 0.8
    scan = sweep(LidarModel(azimuths=1800), boxes, NO_OWNER, origin, yaw, np.random.default_rng(1))

    x, y, z = (scan.points[:, :3].astype(np.float64) @ rotation_z(yaw).T + origin).T
    on_car = scan.owner == 7
    assert on_car.sum() > 50
    assert np.abs(z[~on_car]).max() < 0.1
    local = rotation_z(-0.5) @ np.stack([x[on_car] - 12, y[on_car] - 3, z[on_car]])
    assert np.abs(local[0]).max() < 2.1 and np.abs(local[1]).max() < 1.1
    assert local[2].min() > -0.1 and local[2].max() < 1.7
    assert scan.points.dtype == np.float32 and scan.points[:, 3].min() >= 0 and scan.points[:, 3].max() <= 1


def test_noise_and_drop_out_follow_the_model():
    wall = town_boxes([(10, 0, 0, 0.5, 400, 0, 40, 1)], Material.CONCRETE)
    quiet = LidarModel(beams=16, azimuths=360, range_noise=0.0, loss=0.0)
    lossy = LidarModel(beams=16, azimuths=360, range_noise=0.0, loss=0.5)
    args = (wall, NO_OWNER, np.array([0, 0, 1.9]), 0.0)

    full = sweep(quiet, *args, np.random.default_rng(0))
    half = sweep(lossy, *args, np.random.default_rng(0))
    assert 0.35 < len(half.points) / len(full.points) < 0.65
    facing = (full.points[:, 0] > 9) & (full.points[:, 2] > -1.8)
    assert full.points[facing, 0] == pytest.approx(9.5, abs=1e-4)


def test_materials_and_incidence_show_in_the_intensity():
    def mean_intensity(material: Material, turn: float) -> float:
        boxes = town_boxes([(10, 0, turn, 0.2, 4, 0, 4, 1)], material)
        boxes = Boxes(boxes.geometry, boxes.material, np.array([0]))
        scan = sweep(LidarModel(), boxes, NO_OWNER, np.array([0, 0, 1.9]), 0.0, np.random.default_rng(0))
        return float(scan.points[scan.owner == 0, 3].mean())

    assert mean_intensity(Material.METAL, 0.0) > mean_intensity(Material.RUBBER, 0.0) + 0.2
    assert mean_intensity(Material.METAL, 0.0) > mean_intensity(Material.METAL, 1.2) + 0.05


@pytest.mark.parametrize("beams", [16, 32, 64])
def test_beams_decide_the_number_of_elevations(beams):
    model = LidarModel(beams=beams, azimuths=120, range_noise=0.0)
    scan = sweep(model, random_boxes(0, 5), NO_OWNER, np.array([0, 0, 1.9]), 0.0, np.random.default_rng(0))
    slope = scan.points[:, 2] / np.hypot(scan.points[:, 0], scan.points[:, 1])

    rows = np.abs(slope[:, None] - model.slopes).argmin(axis=1)
    assert slope == pytest.approx(model.slopes[rows], abs=1e-5)
    assert len(set(rows)) > beams / 2


def rotation_z(yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
