import numpy as np
import pytest

from opencood.simulation import rectangles
from opencood.simulation.boxes import PartTable
from opencood.simulation.paths import Paths, Route
from opencood.simulation.scenario import world_digest
from opencood.simulation.world import draw_world


@pytest.mark.parametrize("seed", range(6))
def test_streets_are_free_and_lined_with_buildings(seed):
    world = draw_world(np.random.default_rng(seed))

    tall = world.town.geometry[:, 6] >= 4
    wide = world.town.geometry[:, 3] > 3
    buildings = world.town.footprints[tall & wide]
    assert len(buildings) > 10
    assert not rectangles.overlaps(buildings, world.roads.corridors()).any()

    lanes = world.lanes.points[..., :2].reshape(-1, 2)
    assert not rectangles.contains(world.town.footprints[world.town.geometry[:, 5] < 3], lanes, margin=1.0).any()


@pytest.mark.parametrize("seed", range(6))
def test_parked_vehicles_overlap_nothing(seed):
    world = draw_world(np.random.default_rng(seed))
    sizes = np.array([body.half_size[:2] for body in world.parked]).reshape(-1, 2)
    footprints = np.column_stack([world.parked_poses, sizes])

    assert (rectangles.overlaps(footprints, footprints).sum(axis=1) == 1).all()
    parts = PartTable.of(world.parked).placed(world.parked_poses, np.ones(len(world.parked), dtype=bool))
    low_town = world.town.footprints[world.town.geometry[:, 5] < 2]
    assert not rectangles.overlaps(parts.footprints, low_town).any()


def test_the_seed_is_the_world():
    first, again, other = (draw_world(np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert world_digest(first) == world_digest(again) != world_digest(other)


@pytest.mark.parametrize(("road_type", "arms", "lanes"), [("streets", 3, 1), ("forks", 3, 1), ("avenues", 4, 2)])
def test_types_of_roads(road_type, arms, lanes):
    for seed in range(8):
        roads = draw_world(np.random.default_rng(seed), road_type).roads
        assert (len(roads.arms), roads.lanes) == (arms, lanes)


def test_worlds_are_turned_anyhow():
    headings = np.concatenate([draw_world(np.random.default_rng(seed)).roads.arms for seed in range(60)])
    assert (np.histogram(np.mod(headings, 2 * np.pi), bins=12, range=(0, 2 * np.pi))[0] > 4).all()


def test_paths_know_their_length_and_slow_down_for_curves():
    quarter = np.linspace(0, np.pi / 2, 60)
    bend = np.column_stack([np.sin(quarter), 1 - np.cos(quarter)]) * 8
    paths = Paths.of([Route(np.array([[-30, 0], [-0.1, 0], *bend])), Route(np.array([[0, 0], [10.0, 0]]))])

    assert paths.length == pytest.approx([30 + 4 * np.pi, 10], abs=0.6)
    pose = paths.at(np.array([0, 1]), np.array([20.0, 99.0]))
    assert pose[0] == pytest.approx([-10, 0, 0], abs=0.05)
    assert pose[1, 0] == pytest.approx(paths.length[1])
    assert paths.limit_at(np.array([0]), np.array([33.0]))[0] < 5 < paths.limit_at(np.array([1]), np.array([5.0]))[0]
