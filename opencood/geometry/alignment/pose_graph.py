"""Agents and landmarks in the plane, joined by measurements: least squares by Levenberg-Marquardt.

Unknown are the poses of all agents but the first and the landmarks. Landmarks hang together through agents only, so
they are eliminated (Schur complement) and a system of 3 (N - 1) equations remains.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALLEST_STEP = 1e-10  # metres and radians
_SMALLEST_GAIN = 1e-12  # of the cost
_FIRST_DAMPING = 1e-5  # of the largest diagonal entry


@dataclass(frozen=True)
class PoseGraph:
    """N agents, K landmarks, E measurements.

    Attributes:
        agents: (N, 3) x, y in metres and yaw in radians; the first is fixed.
        landmarks: (K, 3) likewise; the yaw of a landmark that is a point means nothing.
        is_point: (K,) landmarks without a heading.
        agent_of: (E,) who measured.
        landmark_of: (E,) what.
        measured: (E, 3) the landmark in the frame of the agent.
        weights: (E, 3) of the squared errors in x, y (along the measured heading) and yaw.
        huber: errors (square root of the weighted square) beyond it count linearly; None: all count squared.
        believed: (N, 3) where agents are likely to be.
        belief: (3,) weights of the squared distances from there in x, y and yaw.
    """

    agents: Array
    landmarks: Array
    is_point: NDArray[np.bool_]
    agent_of: NDArray[np.int64]
    landmark_of: NDArray[np.int64]
    measured: Array
    weights: Array
    huber: float | None = None
    believed: Array = field(default_factory=lambda: np.zeros((1, 3)))
    belief: Array = field(default_factory=lambda: np.zeros(3))


class _Edges(NamedTuple):
    """Errors of all measurements (E, 3), and their derivatives (E, 3, 3) by agent and landmark."""

    errors: Array
    by_agent: Array
    by_landmark: Array


def optimise(graph: PoseGraph, max_iterations: int = 1000) -> PoseGraph:
    """Return the graph with the agents and landmarks that explain the measurements best.

    Agents and landmarks that nobody measured keep their values. Angles are not wrapped.
    """
    if not len(graph.measured):
        return graph
    edges = _linearised(graph)
    cost, damping, growth = _cost(graph, edges.errors), 0.0, 2.0
    for _ in range(max_iterations):
        system = _NormalEquations(graph, edges)
        damping = damping or _FIRST_DAMPING * system.largest_diagonal
        while True:
            step = system.solve(damping)
            moved = replace(graph, agents=graph.agents + step.agents, landmarks=graph.landmarks + step.landmarks)
            moved_edges = _linearised(moved)
            moved_cost = _cost(moved, moved_edges.errors)
            if moved_cost <= cost or step.size < _SMALLEST_STEP:
                break
            damping, growth = damping * growth, growth * 2
        gain = (cost - moved_cost) / max(step.expected_gain, np.finfo(float).tiny)
        damping, growth = damping * float(np.clip(1 - (2 * gain - 1) ** 3, 1 / 3, 2 / 3)), 2.0
        settled = step.size < _SMALLEST_STEP or cost - moved_cost <= _SMALLEST_GAIN * cost
        if moved_cost <= cost:
            graph, edges, cost = moved, moved_edges, moved_cost
        if settled:
            break
    return graph


def wrapped(angles: Array) -> Array:
    """Return angles in radians within (-pi, pi]."""
    return np.pi - np.mod(np.pi - angles, 2 * np.pi)


def _linearised(graph: PoseGraph) -> _Edges:
    agents, landmarks = graph.agents[graph.agent_of], graph.landmarks[graph.landmark_of]
    is_point = graph.is_point[graph.landmark_of]
    into_agent = _rotations(-agents[:, 2])
    # A point has no heading to measure in: its error stays in the axes of the agent.
    into_measured = _rotations(-np.where(is_point, 0, graph.measured[:, 2]))
    seen = np.einsum("eij,ej->ei", into_agent, landmarks[:, :2] - agents[:, :2])
    errors = np.zeros_like(graph.measured)
    errors[:, :2] = np.einsum("eij,ej->ei", into_measured, seen - graph.measured[:, :2])
    errors[:, 2] = np.where(is_point, 0, wrapped(landmarks[:, 2] - agents[:, 2] - graph.measured[:, 2]))
    by_landmark = np.zeros((len(errors), 3, 3))
    by_landmark[:, :2, :2] = into_measured @ into_agent
    by_landmark[:, 2, 2] = ~is_point
    by_agent = -by_landmark
    turned = np.stack([seen[:, 1], -seen[:, 0]], axis=-1)  # derivative of R(-yaw) (l - t) by yaw
    by_agent[:, :2, 2] = np.einsum("eij,ej->ei", into_measured, turned)
    return _Edges(errors, by_agent, by_landmark)


def _rotations(angles: Array) -> Array:
    """(E, 2, 2) rotations by angles (E,)."""
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def _squares(graph: PoseGraph, errors: Array) -> Array:
    return (graph.weights * errors**2).sum(axis=1)


def _cost(graph: PoseGraph, errors: Array) -> float:
    squares = _squares(graph, errors)
    if graph.huber is not None:
        sizes = np.sqrt(squares)
        squares = np.where(sizes > graph.huber, graph.huber * (2 * sizes - graph.huber), squares)
    return float(squares.sum() + (graph.belief * (graph.agents - graph.believed)[1:] ** 2).sum())


def _weights(graph: PoseGraph, errors: Array) -> Array:
    """(E, 3) weights of the squares that have the same gradient as the cost."""
    if graph.huber is None:
        return graph.weights
    sizes = np.sqrt(_squares(graph, errors))[:, None]
    return graph.weights * np.minimum(1, graph.huber / np.maximum(sizes, np.finfo(float).tiny))


class _Step(NamedTuple):
    """What is added to agents (N, 3) and landmarks (K, 3), and by how much the cost should fall."""

    agents: Array
    landmarks: Array
    expected_gain: float

    @property
    def size(self) -> float:
        """Largest change."""
        return max(np.abs(self.agents).max(initial=0), np.abs(self.landmarks).max(initial=0))


class _NormalEquations:
    """The linearised problem: blocks of J^T W J and J^T W e."""

    def __init__(self, graph: PoseGraph, edges: _Edges) -> None:
        weights = _weights(graph, edges.errors)
        n, k = len(graph.agents), len(graph.landmarks)
        weighted_agent, weighted_landmark = (
            weights[:, :, None] * edges.by_agent,
            weights[:, :, None] * edges.by_landmark,
        )
        agent_blocks = np.zeros((n, 3, 3))
        self._cross = np.zeros((n, k, 3, 3))
        self._landmark_blocks = np.zeros((k, 3, 3))
        self._agent_side, self._landmark_side = np.zeros((n, 3)), np.zeros((k, 3))
        np.add.at(agent_blocks, graph.agent_of, _products(edges.by_agent, weighted_agent))
        np.add.at(self._cross, (graph.agent_of, graph.landmark_of), _products(edges.by_agent, weighted_landmark))
        np.add.at(self._landmark_blocks, graph.landmark_of, _products(edges.by_landmark, weighted_landmark))
        np.add.at(self._agent_side, graph.agent_of, -np.einsum("eij,ei->ej", weighted_agent, edges.errors))
        np.add.at(self._landmark_side, graph.landmark_of, -np.einsum("eij,ei->ej", weighted_landmark, edges.errors))
        agent_blocks += np.diag(graph.belief)
        self._agent_side -= graph.belief * (graph.agents - graph.believed)
        # The first agent is no unknown.
        self._agent_blocks, self._cross, self._agent_side = agent_blocks[1:], self._cross[1:], self._agent_side[1:]

    @property
    def largest_diagonal(self) -> float:
        """Largest entry on the diagonal of J^T W J."""
        return max(np.abs(self._agent_blocks).max(initial=0), np.abs(self._landmark_blocks).max(initial=0))

    def solve(self, damping: float) -> _Step:
        """Return the damped step."""
        n, k = self._cross.shape[:2]
        damped = damping * np.eye(3)
        inverse = np.linalg.inv(self._landmark_blocks + damped)  # (K, 3, 3)
        reached = self._cross @ inverse  # (N, K, 3, 3)
        reduced = -np.einsum("akij,bklj->aibl", reached, self._cross)
        reduced[np.arange(n), :, np.arange(n)] += self._agent_blocks + damped
        side = self._agent_side - np.einsum("akij,kj->ai", reached, self._landmark_side)
        agents = np.linalg.solve(reduced.reshape(3 * n, 3 * n), side.reshape(-1)).reshape(n, 3)
        rest = self._landmark_side - np.einsum("akij,ai->kj", self._cross, agents)
        landmarks = np.einsum("kij,kj->ki", inverse, rest)
        expected = damping * ((agents**2).sum() + (landmarks**2).sum())
        expected += (agents * self._agent_side).sum() + (landmarks * self._landmark_side).sum()
        return _Step(np.concatenate([np.zeros((1, 3)), agents]), landmarks, float(expected))


def _products(left: Array, right: Array) -> Array:
    """(E, 3, 3) left^T right."""
    return np.einsum("eki,ekj->eij", left, right)
