"""From the boxes that agents detect and the poses they believe in to better relative poses.

    Lu, Li, Zhang, Wang, Chen, Chen: Robust Collaborative 3D Object Detection in Presence of Pose Errors (CoAlign),
    ICRA 2023 (arXiv 2211.07214), section IV

Boxes that lie together in the world are one landmark; a pose graph of agents and landmarks is solved with the boxes as
measurements. The first agent, the ego, keeps its pose: only what lies between agents gets better.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opencood.errors import ConfigError, DataError, nearest
from opencood.geometry.alignment import clusters
from opencood.geometry.alignment.pose_graph import PoseGraph, optimise, wrapped
from opencood.geometry.boxes import corners_to_boxes
from opencood.geometry.poses import x_to_world

_FEW_CLUSTERS = 3
_UNSURE = 100.0
_ALL_RESIDUALS = 7
_MATCHINGS = ("seed", "mutual")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class AlignmentOptions:
    """How boxes correct poses. Defaults are the published ones; those from ``anchor_size`` on are ours.

    Attributes:
        landmark_SE2: a landmark has a heading; else it is a point.
        adaptive_landmark: with ``landmark_SE2``, a cluster of unclear heading becomes a point whose weights double.
        normalize_uncertainty: weights are replaced by their square root.
        abandon_hard_cases: poses stay as they are with at most three clusters, or if the heading of at least half of
            the clusters is unclear.
        drop_hard_boxes: clusters of unclear heading are not used.
        drop_unsure_edge: boxes whose three weights add up to less than 100 are not used.
        use_uncertainty: boxes weigh as much as the detector is sure of them; else all alike.
        thres: boxes nearer than this are the same object, metres.
        yaw_var_thres: the heading of a cluster with a larger variance is unclear, square radians.
        max_iterations: of the solver.
        anchor_size: length and width in metres of the detector's anchor, the unit of its uncertainty in x and y.
        matching: ``seed`` (published) or ``mutual``: see ``clusters``.
        circular_yaw: headings count modulo pi, so that a box turned end for end agrees with one that is not.
        huber: weighted errors beyond it count linearly; None: squared, as published.
        believed_std: standard deviations in metres and degrees of what agents believe about their places; poses are
            pulled there. None: as published, boxes alone decide.
    """

    landmark_SE2: bool = True
    adaptive_landmark: bool = False
    normalize_uncertainty: bool = False
    abandon_hard_cases: bool = False
    drop_hard_boxes: bool = False
    drop_unsure_edge: bool = False
    use_uncertainty: bool = True
    thres: float = 1.5
    yaw_var_thres: float = 0.2
    max_iterations: int = 1000
    anchor_size: Sequence[float] = (3.9, 1.6)
    matching: str = "seed"
    circular_yaw: bool = False
    huber: float | None = None
    believed_std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.matching not in _MATCHINGS:
            raise ConfigError(
                f"box_align.args.matching: '{self.matching}' is none of {', '.join(_MATCHINGS)}."
                f"{nearest(self.matching, _MATCHINGS)}"
            )
        if len(self.anchor_size) != 2:
            raise ConfigError(f"box_align.args.anchor_size: expected [length, width], found {list(self.anchor_size)}.")
        if self.believed_std is not None and (len(self.believed_std) != 2 or min(self.believed_std) <= 0):
            raise ConfigError(
                f"box_align.args.believed_std: expected [metres, degrees] above 0, found {list(self.believed_std)}."
            )


class Alignment(NamedTuple):
    """Corrected poses (N, 3): x, y in metres, yaw in degrees; cluster (M,) of every box, -1 for those seen once."""

    poses: Array
    cluster: NDArray[np.int64]


class _Boxes(NamedTuple):
    """All boxes of all agents (M): whose, in the agent's plane, in the world (relative to the ego), and weights."""

    agent: NDArray[np.int64]
    own: Array
    world: Array
    weights: Array


def align_boxes(
    corners: Sequence[NDArray],
    poses: NDArray,
    uncertainty: Sequence[NDArray] | None = None,
    options: AlignmentOptions | None = None,
) -> Alignment:
    """Return the poses of N agents as their boxes say.

    Args:
        corners: per agent (n_i, 8, 3) boxes in its own frame, metres.
        poses: (N, 6) poses they believe in, ``x, y, z, roll, yaw, pitch`` in metres and degrees.
        uncertainty: per agent (n_i, 2 or more) log variances of x, y, yaw (7: of all residuals), in the units of the
            detector's residuals.

    Raises:
        DataError: there is no uncertainty although it is to be used, or lists do not fit together.
    """
    options = options or AlignmentOptions()
    poses = np.asarray(poses, np.float64)
    boxes = _gathered(corners, poses, uncertainty, options)
    cluster = _clusters(boxes, options)
    graph = _graph(boxes, cluster, poses, options)
    if graph is None:
        return Alignment(poses[:, [0, 1, 4]], cluster)
    solved = optimise(graph, options.max_iterations).agents
    origin = np.array([*poses[0, :2], 0.0])
    moved = np.concatenate([solved[:, :2], np.degrees(wrapped(solved[:, 2]))[:, None]], axis=1) + origin
    moves = np.isin(np.arange(len(poses)), graph.agent_of[graph.agent_of > 0])
    return Alignment(np.where(moves[:, None], moved, poses[:, [0, 1, 4]]), cluster)


def _gathered(
    corners: Sequence[NDArray], poses: Array, uncertainty: Sequence[NDArray] | None, options: AlignmentOptions
) -> _Boxes:
    if len(corners) != len(poses):
        raise DataError(f"pose correction: boxes of {len(corners)} agents, but {len(poses)} poses.")
    shaped = [np.asarray(own, np.float64).reshape(-1, 8, 3) for own in corners]
    counts = [len(own) for own in shaped]
    agent = np.repeat(np.arange(len(poses)), counts)
    joined = np.concatenate(shaped)
    # World coordinates relative to the ego: large ones would cost digits.
    near_ego = poses - np.array([*poses[0, :3], 0, 0, 0])
    matrices = np.stack([x_to_world(pose) for pose in near_ego])[agent]
    in_world = np.einsum("mij,mkj->mki", matrices[:, :3, :3], joined) + matrices[:, None, :3, 3]
    weights = _weights(uncertainty, counts, options) if options.use_uncertainty else np.ones((len(agent), 3))
    return _Boxes(agent, _centres_and_yaws(joined), _centres_and_yaws(in_world), weights)


def _centres_and_yaws(corners: Array) -> Array:
    """(M, 4) x, y, z, yaw of (M, 8, 3) corners."""
    return corners_to_boxes(corners, "lwh")[:, [0, 1, 2, 6]]


def _weights(uncertainty: Sequence[NDArray] | None, counts: list[int], options: AlignmentOptions) -> Array:
    """(M, 3) of x, y, yaw."""
    given = [np.asarray(own, np.float64) for own in uncertainty or ()]
    given = [own.reshape(len(own), -1) for own in given if own.size]
    joined = np.concatenate(given) if given else np.zeros((0, 3))
    if len(joined) != sum(counts) or joined.shape[1] < 2:
        raise DataError(
            f"pose correction: {len(joined)} uncertainties for {sum(counts)} boxes; a detector that tells none needs "
            "box_align.args.use_uncertainty: false."
        )
    if joined.shape[1] == _ALL_RESIDUALS:  # of x, y, z, three sizes and yaw
        joined = joined[:, [0, 1, 6]]
    weights = np.ones((len(joined), 3))
    columns = min(3, joined.shape[1])
    if columns < 3:
        warnings.warn("pose correction: no uncertainty of the yaw; its weight is 1.", stacklevel=4)
    weights[:, :columns] = np.exp(-joined[:, :columns])
    length, width = options.anchor_size
    weights[:, :2] /= length**2 + width**2
    return np.sqrt(weights) if options.normalize_uncertainty else weights


def _clusters(boxes: _Boxes, options: AlignmentOptions) -> NDArray[np.int64]:
    distances = clusters.distances_between_agents(boxes.world[:, :3], boxes.agent)
    if options.matching == "mutual":
        return clusters.clusters_of_mutual_neighbours(distances, boxes.agent, options.thres)
    return clusters.clusters_around_seeds(distances, options.thres)


def _graph(boxes: _Boxes, cluster: NDArray[np.int64], poses: Array, options: AlignmentOptions) -> PoseGraph | None:
    """The pose graph, in the plane with its origin at the ego; None where poses are to stay."""
    count = int(cluster.max(initial=clusters.ALONE)) + 1
    if not count:
        return None
    variances = _yaw_variances(boxes.world[:, 3], cluster, count, options.circular_yaw)
    unclear = variances > options.yaw_var_thres
    if options.abandon_hard_cases and (count <= _FEW_CLUSTERS or unclear.sum() >= count / 2):
        return None
    _, seeds = np.unique(cluster[cluster >= 0], return_index=True)
    landmarks = boxes.world[np.flatnonzero(cluster >= 0)[seeds]][:, [0, 1, 3]]
    turns_to_point = unclear & options.adaptive_landmark
    is_point = turns_to_point if options.landmark_SE2 else np.ones(count, bool)
    used = cluster >= 0
    if options.drop_hard_boxes:
        used &= ~unclear[cluster]
    if options.drop_unsure_edge and options.use_uncertainty:
        used &= boxes.weights.sum(axis=1) >= _UNSURE
    edges = np.flatnonzero(used)
    landmark_of = cluster[edges]
    measured = boxes.own[edges][:, [0, 1, 3]]
    if options.circular_yaw:
        measured[:, 2] += _half_turns(boxes.world[edges, 3] - landmarks[landmark_of, 2])
    weights = boxes.weights[edges]
    if options.landmark_SE2:
        weights = weights * np.where(turns_to_point[landmark_of], 2, 1)[:, None]
    agents = np.stack([*(poses[:, :2] - poses[0, :2]).T, np.radians(poses[:, 4])], axis=1)
    return PoseGraph(
        agents,
        landmarks,
        is_point,
        boxes.agent[edges],
        landmark_of,
        measured,
        weights,
        options.huber,
        believed=agents,
        belief=_belief(options),
    )


def _belief(options: AlignmentOptions) -> Array:
    """(3,) weights of the distance from the believed x, y and yaw (radians)."""
    if options.believed_std is None:
        return np.zeros(3)
    metres, degrees = options.believed_std
    return np.array([metres, metres, np.radians(degrees)]) ** -2.0


def _yaw_variances(yaws: Array, cluster: NDArray[np.int64], count: int, circular: bool) -> Array:
    """(K,) population variance of the headings (M,) of each cluster."""
    members = cluster >= 0
    cluster, yaws = cluster[members], yaws[members]
    sizes = np.bincount(cluster, minlength=count)
    if circular:  # the variance of a normal distribution with the same mean of exp(2 i yaw), halved angles
        resultant = np.hypot(
            np.bincount(cluster, np.cos(2 * yaws), count), np.bincount(cluster, np.sin(2 * yaws), count)
        )
        return -np.log(np.clip(resultant / sizes, np.finfo(float).tiny, 1)) / 2
    means = np.bincount(cluster, yaws, count) / sizes
    return np.bincount(cluster, (yaws - means[cluster]) ** 2, count) / sizes


def _half_turns(differences: Array) -> Array:
    """pi where two headings differ by more than a quarter turn, else 0."""
    return np.where(np.abs(wrapped(differences)) > np.pi / 2, np.pi, 0.0)
