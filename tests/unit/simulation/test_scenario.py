from dataclasses import replace

import numpy as np
import pytest

from opencood.errors import ConfigError, DataError
from opencood.simulation.presets import PRESETS, find_preset, scenario_plans
from opencood.simulation.recording import Frame, Objects
from opencood.simulation.scenario import ROADSIDE_ID, Scenario

PLANS = scenario_plans(replace(PRESETS["mini"], agents=(2, 5), roadside=True, scenarios=(6, 1, 1)), seed=3)


@pytest.fixture(scope="module")
def films() -> list[list[Frame]]:
    return [list(Scenario(plan).frames()) for plan in PLANS]


def points_inside(points: np.ndarray, sensor: np.ndarray, objects: Objects, margin: float) -> np.ndarray:
    """Points within each object's bounding box, counted from the cloud alone: (M,)."""
    cos, sin = np.cos(sensor[3]), np.sin(sensor[3])
    x = sensor[0] + points[:, 0] * cos - points[:, 1] * sin
    y = sensor[1] + points[:, 0] * sin + points[:, 1] * cos
    z = sensor[2] + points[:, 2]
    counts = []
    for (cx, cy, heading), (length, width, height) in zip(objects.poses, objects.half_sizes, strict=True):
        along = (x - cx) * np.cos(heading) + (y - cy) * np.sin(heading)
        across = (y - cy) * np.cos(heading) - (x - cx) * np.sin(heading)
        inside = (np.abs(along) < length + margin) & (np.abs(across) < width + margin)
        counts.append((inside & (z > 0.1) & (z < 2 * height + margin)).sum())
    return np.array(counts)


def test_hits_are_the_points_in_the_boxes(films):
    for frame in (film[-1] for film in films):
        for view in frame.agents:
            counted = points_inside(view.points, view.sensor_pose, frame.objects, margin=0.1)
            # The count leaves out the lowest 10 cm of a body, and takes in what touches it (a pedestrian, a tree).
            vehicles = frame.objects.is_vehicle
            counted, hits = counted[vehicles], view.hits[vehicles]
            assert (counted <= hits + 8).all()
            assert 0.8 * hits.sum() <= counted.sum() <= 1.02 * hits.sum()


def test_agents_are_bodies_and_do_not_see_themselves(films):
    for frame in (frame for film in films for frame in film):
        ids = frame.objects.ids.tolist()
        for view in frame.agents:
            assert len(view.points) > 1000
            if view.agent_id == ROADSIDE_ID:
                assert view.sensor_pose[2] == pytest.approx(6) and view.speed == 0
                continue
            own = ids.index(view.agent_id)
            assert view.hits[own] == 0
            assert view.sensor_pose[2] == pytest.approx(1.9)
            assert view.body_pose[[0, 1, 3]] == pytest.approx(frame.objects.poses[own])


def test_agents_are_together_but_spread(films):
    for plan, film in zip(PLANS, films, strict=True):
        cars = [view for view in film[0].agents if view.agent_id >= 0]
        assert plan.agents[0] <= len(cars) <= plan.agents[1]
        places = np.array([view.body_pose[:2] for view in cars])
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(cars), 1)]
        assert apart.min() > 8 and apart.max() < 60


def test_frames_hold_five_to_forty_vehicles_that_somebody_sees(films):
    for frame in (frame for film in films for frame in film):
        seen = np.sum([view.hits for view in frame.agents], axis=0) > 0
        assert 5 <= (seen & frame.objects.is_vehicle).sum() <= 40


def test_pedestrians_and_trucks_are_among_what_the_agents_hit(films):
    hit = set()
    for frame in (frame for film in films for frame in film):
        assert [name == "pedestrian" for name in frame.objects.classes] == (~frame.objects.is_vehicle).tolist()
        seen = np.sum([view.hits for view in frame.agents], axis=0) > 0
        hit |= {name for name, is_hit in zip(frame.objects.classes, seen, strict=True) if is_hit}
    assert hit == {"vehicle", "pedestrian", "truck"}


def test_no_two_splits_share_a_world():
    digests = [Scenario(plan).world_digest for plan in PLANS]
    assert len(set(digests)) == len(digests)
    assert {plan.split for plan in PLANS} == {"train", "validate", "test"}


def test_too_many_agents_for_any_junction_fail_clearly():
    plan = replace(PLANS[0], agents=(5, 5), vehicles=(2, 2))
    with pytest.raises(DataError, match="--agents"):
        Scenario(plan)


def test_presets_have_names():
    assert find_preset("small") is PRESETS["small"]
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        find_preset("smal")


def test_scenario_names_are_dates_in_order_and_unique():
    plans = scenario_plans(replace(PRESETS["mini"], scenarios=(80, 30, 30)), seed=0)
    names = [plan.name for plan in plans]
    assert len(set(names)) == len(names)
    for split in ("train", "validate", "test"):
        own = [plan.name for plan in plans if plan.split == split]
        assert own == sorted(own) and all(len(name.split("_")) == 6 for name in own)
