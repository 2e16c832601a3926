import numpy as np
import pytest

from opencood.simulation import rectangles
from opencood.simulation.paths import SPACING
from opencood.simulation.traffic import TICK, Traffic
from opencood.simulation.world import draw_world


def overlapping_pairs(traffic: Traffic) -> int:
    footprints = traffic.footprints[traffic.present]
    touching = rectangles.overlaps(footprints, footprints)
    return int((touching.sum() - len(footprints)) // 2)


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def film(request):
    """Traffic of one town, and its poses and presence over 25 seconds."""
    rng = np.random.default_rng(request.param)
    traffic = Traffic(draw_world(rng), vehicles=20, pedestrians=8, rng=rng)
    poses, present, ids, overlaps = [], [], [], []
    for _ in range(250):
        poses.append(traffic.poses.copy())
        present.append(traffic.present.copy())
        ids.append(traffic.ids.copy())
        overlaps.append(overlapping_pairs(traffic))
        traffic.step()
    return traffic, np.array(poses), np.array(present), np.array(ids), overlaps


def test_no_two_bodies_ever_overlap(film):
    assert max(film[4]) == 0


def test_speeds_and_headings_are_plausible(film):
    traffic, poses, present, ids, _ = film
    same = (ids[1:] == ids[:-1]) & present[1:] & present[:-1]
    step = np.diff(poses, axis=0)
    speed = np.linalg.norm(step[..., :2], axis=-1) / TICK
    assert speed[same].max() < 14
    assert speed[same].max() > 5
    forward = step[..., 0] * np.cos(poses[:-1, :, 2]) + step[..., 1] * np.sin(poses[:-1, :, 2])
    assert (forward[same & traffic.is_vehicle] > -0.02).all()
    turn = np.abs(step[..., 2])[same & traffic.is_vehicle]
    assert turn.max() < 0.3


def test_vehicles_turn_and_parked_ones_stay(film):
    traffic, poses, present, ids, _ = film
    parked = ~traffic.is_mover
    assert (poses[:, parked] == poses[0, parked]).all()
    turned = 0.0
    for row in np.flatnonzero(traffic.is_mover & traffic.is_vehicle):
        own = present[:, row] & (ids[:, row] == ids[0, row])
        turned = max(turned, np.ptp(poses[own, row, 2]) if own.any() else 0.0)
    assert turned > 0.5


def test_traffic_keeps_to_its_lanes(film):
    traffic, poses, present, _, _ = film
    points = traffic.world.lanes.points[..., :2].reshape(-1, 2)
    for row in np.flatnonzero(traffic.is_mover & traffic.is_vehicle):
        for pose in poses[present[:, row], row][::50]:
            assert np.linalg.norm(points - pose[:2], axis=1).min() < SPACING


def test_ids_are_unique_and_newcomers_get_new_ones(film):
    _, _, present, ids, _ = film
    for now, here in zip(ids, present, strict=True):
        assert len(set(now[here])) == here.sum()
    for row in range(ids.shape[1]):
        changes = np.flatnonzero(np.diff(ids[:, row]))
        assert len(set(ids[:, row])) == len(changes) + 1


def test_connected_cars_never_leave():
    rng = np.random.default_rng(8)
    traffic = Traffic(draw_world(rng), vehicles=6, pedestrians=0, rng=rng)
    cars = np.flatnonzero(traffic.present & traffic.is_mover)
    traffic.connected[cars] = True
    ids = traffic.ids[cars].copy()
    for _ in range(400):
        traffic.step()
    assert traffic.present[cars].all() and (traffic.ids[cars] == ids).all()
    assert overlapping_pairs(traffic) == 0


@pytest.mark.parametrize("seed", [4, 5, 11])
def test_traffic_keeps_flowing(seed):
    rng = np.random.default_rng(seed)
    traffic = Traffic(draw_world(rng), vehicles=20, pedestrians=10, rng=rng)
    for _ in range(400):
        traffic.step()
    before = traffic.poses.copy()
    moved = np.zeros(len(before))
    for _ in range(300):
        traffic.step()
        moved = np.maximum(moved, np.linalg.norm(traffic.poses[:, :2] - before[:, :2], axis=1))
    cars = traffic.present & traffic.is_mover & traffic.is_vehicle
    assert (moved[cars] > 3).mean() > 0.5
