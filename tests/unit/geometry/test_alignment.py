"""Poses corrected by boxes: what must hold whatever the scene."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.errors import ConfigError, DataError
from opencood.geometry.alignment import AlignmentOptions, align_boxes
from opencood.geometry.alignment.clusters import clusters_around_seeds, clusters_of_mutual_neighbours
from opencood.geometry.alignment.pose_graph import PoseGraph, optimise, wrapped
from opencood.geometry.boxes import boxes_to_corners_3d, project_corners
from opencood.geometry.poses import x1_to_x2, x_to_world

SETTINGS = settings(max_examples=25, deadline=None)
SURE = -14.0  # log variance of a detector that is sure to some centimetres


class World:
    """Agents around boxes that lie at least 6 m apart; everybody sees most boxes exactly."""

    def __init__(self, seed: int, agents: int = 3, boxes: int = 12) -> None:
        random = np.random.default_rng(seed)
        cells = random.permutation(36)[:boxes]
        places = np.stack([cells % 6, cells // 6], axis=1) * 8.0 - 20 + random.uniform(-1, 1, (boxes, 2))
        sizes = np.tile([4.2, 1.8, 1.6], (boxes, 1))
        yaws = random.uniform(-np.pi, np.pi, boxes)
        self.boxes = np.column_stack([places, np.full(boxes, 0.8), sizes, yaws])
        self.clean = np.zeros((agents, 6))
        self.clean[:, :2] = random.uniform(-25, 25, (agents, 2))
        self.clean[:, 2], self.clean[:, 4] = 1.9, random.uniform(-180, 180, agents)
        in_world = boxes_to_corners_3d(self.boxes, "lwh").astype(np.float64)
        seen = random.random((agents, boxes)) < 0.8
        self.corners = [
            project_corners(in_world[mask], np.linalg.inv(x_to_world(pose)))
            for mask, pose in zip(seen, self.clean, strict=True)
        ]
        self.uncertainty = [np.full((mask.sum(), 3), SURE) for mask in seen]
        self.noise = np.zeros((agents, 6))
        self.noise[:, :2] = random.normal(0, 0.15, (agents, 2))
        self.noise[:, 4] = random.normal(0, 0.3, agents)
        self.noisy = self.clean + self.noise

    def aligned(self, poses: np.ndarray, **options: Any) -> np.ndarray:
        return align_boxes(self.corners, poses, self.uncertainty, AlignmentOptions(**options)).poses


def errors(planar: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """(N - 1, 3) errors in x, y (metres) and yaw (degrees) of the poses relative to the ego."""
    full = clean.copy()
    full[:, [0, 1, 4]] = planar
    between = [x1_to_x2(clean[0], clean[i]) @ x1_to_x2(full[i], full[0]) for i in range(1, len(clean))]
    return np.array([[m[0, 3], m[1, 3], np.degrees(np.arctan2(m[1, 0], m[0, 0]))] for m in between])


OPTIONS = st.fixed_dictionaries(
    {
        "landmark_SE2": st.booleans(),
        "adaptive_landmark": st.booleans(),
        "normalize_uncertainty": st.booleans(),
        "abandon_hard_cases": st.booleans(),
        "use_uncertainty": st.booleans(),
        "matching": st.sampled_from(["seed", "mutual"]),
        "circular_yaw": st.booleans(),
        "huber": st.sampled_from([None, 1.0]),
    }
)


@SETTINGS
@given(st.integers(0, 10_000), OPTIONS)
def test_true_poses_stay(seed: int, options: dict[str, Any]) -> None:
    world = World(seed)
    assert errors(world.aligned(world.clean, **options), world.clean) == pytest.approx(0, abs=2e-4)


@SETTINGS
@given(st.integers(0, 10_000), OPTIONS)
def test_known_noise_vanishes_when_boxes_agree(seed: int, options: dict[str, Any]) -> None:
    world = World(seed)
    options |= {"abandon_hard_cases": False}
    before = np.abs(errors(world.noisy[:, [0, 1, 4]], world.clean)).max(axis=0)
    after = np.abs(errors(world.aligned(world.noisy, **options), world.clean)).max(axis=0)
    assert (after <= 1e-3 + 0.02 * before).all()


@SETTINGS
@given(st.integers(0, 10_000), st.floats(-1e4, 1e4), st.floats(-180, 180))
def test_nothing_depends_on_where_the_world_begins(seed: int, shift: float, turn: float) -> None:
    world = World(seed)
    moved = x_to_world([shift, -shift, 0, 0, turn, 0])
    elsewhere = world.noisy.copy()
    elsewhere[:, :2] = (
        moved @ np.column_stack([world.noisy[:, :2], 0 * world.noisy[:, :1], 1 + 0 * turn * world.noisy[:, :1]]).T
    ).T[:, :2]
    elsewhere[:, 4] += turn
    here, there = world.aligned(world.noisy), world.aligned(elsewhere)
    expected = (moved[:2, :2] @ here[:, :2].T).T + moved[:2, 3]
    assert there[:, :2] == pytest.approx(expected, abs=1e-5)
    assert wrapped(np.radians(there[:, 2] - here[:, 2] - turn)) == pytest.approx(0, abs=1e-7)


def test_ego_and_lonely_agents_stay() -> None:
    world = World(3, agents=4)
    world.corners[2], world.uncertainty[2] = np.zeros((0, 8, 3)), np.zeros((0, 3))
    found = world.aligned(world.noisy)
    assert found[[0, 2]] == pytest.approx(world.noisy[[0, 2]][:, [0, 1, 4]])
    assert np.abs(found[1] - world.noisy[1, [0, 1, 4]]).max() > 0.01


def test_no_boxes_and_few_clusters_leave_poses_as_they_are() -> None:
    world = World(0, boxes=3)
    empty = [np.zeros((0, 8, 3))] * 3
    assert align_boxes(empty, world.noisy, empty).poses == pytest.approx(world.noisy[:, [0, 1, 4]])
    assert world.aligned(world.noisy, abandon_hard_cases=True) == pytest.approx(world.noisy[:, [0, 1, 4]])


def flipped(world: World) -> World:
    """Every second box of the second agent is turned end for end."""
    order = [2, 3, 0, 1, 6, 7, 4, 5]
    world.corners[1][::2] = world.corners[1][::2][:, order]
    return world


def test_boxes_turned_end_for_end() -> None:
    world = flipped(World(5))
    choices: dict[str, dict[str, Any]] = {
        "plain": {},
        "dropped": {"drop_hard_boxes": True},
        "points": {"adaptive_landmark": True},
        "circular": {"circular_yaw": True},
    }
    size = {k: np.abs(errors(world.aligned(world.noisy, **v), world.clean)).max() for k, v in choices.items()}
    assert size["plain"] > 1
    assert max(size["dropped"], size["points"], size["circular"]) < 1e-3


def test_a_box_that_is_badly_off_matters_less_with_a_robust_cost() -> None:
    world = World(8, agents=2, boxes=16)
    world.corners[1][:3, :, :2] += 0.5
    plain, robust = (np.abs(errors(world.aligned(world.noisy, huber=h), world.clean)).max() for h in (None, 1.0))
    assert robust < plain / 3


def test_what_is_believed_holds_poses_where_boxes_are_few_and_unsure() -> None:
    world = World(8, agents=2, boxes=3)
    for own in world.uncertainty:
        own[:] = 0.0
    world.corners[1][:, :, :2] += np.random.default_rng(0).normal(0, 0.5, (len(world.corners[1]), 1, 2))
    free, held, fixed = (
        np.abs(world.aligned(world.noisy, believed_std=std) - world.noisy[:, [0, 1, 4]]).max()
        for std in (None, [0.5, 0.5], [1e-4, 1e-4])
    )
    assert fixed < 1e-3 < held < free
    sure = World(8)
    after = np.abs(errors(sure.aligned(sure.noisy, believed_std=[0.5, 0.5]), sure.clean)).max()
    assert after < 0.05 * np.abs(errors(sure.noisy[:, [0, 1, 4]], sure.clean)).max()


def test_sure_boxes_count_more() -> None:
    world = World(8, agents=2, boxes=16)
    world.corners[1][:3, :, :2] += 0.5
    world.uncertainty[1][:3] = 0.0
    weighted, alike = (
        np.abs(errors(world.aligned(world.noisy, use_uncertainty=use), world.clean)).max() for use in (True, False)
    )
    assert weighted < alike / 10
    unsure = world.aligned(world.noisy, drop_unsure_edge=True)
    assert np.abs(errors(unsure, world.clean)).max() <= weighted + 1e-6


def test_solution_is_where_the_cost_is_flat() -> None:
    """The analytic solver against central differences of the cost itself."""
    random = np.random.default_rng(1)
    agents, landmarks = random.normal(size=(3, 3)), random.normal(size=(5, 3)) * 4
    is_point = np.array([False, True, False, False, True])
    pairs = np.array([(a, k) for a in range(3) for k in range(5)])
    graph = PoseGraph(
        agents, landmarks, is_point, pairs[:, 0], pairs[:, 1],
        random.normal(size=(15, 3)), random.uniform(0.5, 2, (15, 3)),
    )  # fmt: skip
    solved = optimise(graph)
    assert plain_cost(solved, solved.agents, solved.landmarks) < plain_cost(graph, agents, landmarks)
    step = 1e-5
    for array, rows in (("agents", range(1, 3)), ("landmarks", range(5))):
        for row in rows:
            for column in range(3):
                sides = []
                for sign in (1, -1):
                    values = {"agents": solved.agents.copy(), "landmarks": solved.landmarks.copy()}
                    values[array][row, column] += sign * step
                    sides.append(plain_cost(solved, **values))
                assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(0, abs=1e-4)


def plain_cost(graph: PoseGraph, agents: np.ndarray, landmarks: np.ndarray) -> float:
    """The sum of squares, edge by edge, with matrices: the oracle of the vectorised solver."""
    total = 0.0
    for a, k, measured, weights in zip(graph.agent_of, graph.landmark_of, graph.measured, graph.weights, strict=True):
        into_agent = np.linalg.inv(matrix(agents[a])) @ matrix(landmarks[k])
        if graph.is_point[k]:
            error = np.array([*(into_agent[:2, 2] - measured[:2]), 0])
        else:
            difference = np.linalg.inv(matrix(measured)) @ into_agent
            error = np.array([*difference[:2, 2], np.arctan2(difference[1, 0], difference[0, 0])])
        total += float((weights * error**2).sum())
    return total


def matrix(pose: np.ndarray) -> np.ndarray:
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    return np.array([[cosine, -sine, pose[0]], [sine, cosine, pose[1]], [0, 0, 1]])


def test_clusters_by_hand() -> None:
    """Boxes on a line: 0 and 1.0 and 2.0 metres of agents 0, 1, 2, another pair far away, one box alone."""
    place = np.array([0.0, 1.0, 2.0, 10.0, 10.5, 20.0])
    agent = np.array([0, 1, 2, 0, 1, 2])
    distances = np.abs(place[:, None] - place)
    distances[agent[:, None] == agent] = np.inf
    assert clusters_around_seeds(distances, 1.5).tolist() == [0, 0, -1, 1, 1, -1]  # nearness is not handed on
    assert clusters_of_mutual_neighbours(distances, agent, 1.5).tolist() == [0, 0, 0, 1, 1, -1]


def test_what_is_wrong_is_said() -> None:
    world = World(0)
    with pytest.raises(ConfigError, match="matching: 'sead' is none of seed, mutual. Did you mean 'seed'"):
        AlignmentOptions(matching="sead")
    with pytest.raises(ConfigError, match="anchor_size"):
        AlignmentOptions(anchor_size=(1.0,))
    with pytest.raises(ConfigError, match="believed_std: expected .metres, degrees. above 0"):
        AlignmentOptions(believed_std=[0.0, 1.0])
    with pytest.raises(DataError, match="use_uncertainty: false"):
        align_boxes(world.corners, world.noisy)
    with pytest.raises(DataError, match="boxes of 2 agents, but 3 poses"):
        align_boxes(world.corners[:2], world.noisy, world.uncertainty)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        align_boxes(world.corners, world.noisy, [own[:, :2] for own in world.uncertainty])
    assert "its weight is 1" in str(caught[0].message)
