"""Which boxes of several agents are the same object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

ALONE = -1  # cluster of a box that nobody else sees


def distances_between_agents(centres: NDArray[np.float64], agent: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (M, M) distances of (M, 3) centres in metres; infinite between boxes of the same agent (M,)."""
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    return np.where(agent[:, None] == agent[None], np.inf, distances)


def clusters_around_seeds(distances: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Return the cluster (M,) of each box as published: one after the other takes all that are free and near *itself*.

    Clusters are numbered in the order of discovery; a box without a partner is ``ALONE``. Two boxes of one agent may
    share a cluster, and nearness is not handed on.

    Args:
        distances: (M, M) metres.
        threshold: nearer boxes are the same object, metres.
    """
    return _around_seeds(np.ascontiguousarray(distances < threshold))


def clusters_of_mutual_neighbours(
    distances: NDArray[np.float64], agent: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """Return the cluster (M,) of each box: chains of boxes that are each other's nearest among their agents' boxes.

    Unlike ``clusters_around_seeds`` a box joins at most one box of each other agent directly.
    """
    nearest = np.zeros(distances.shape, bool)
    rows = np.arange(len(agent))
    for other in np.unique(agent):
        columns = np.flatnonzero(agent == other)
        nearest[rows, columns[distances[:, columns].argmin(axis=1)]] = True
    return _chained(np.ascontiguousarray(nearest & nearest.T & (distances < threshold)))


@compiled
def _around_seeds(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    count = len(near)
    cluster = np.full(count, ALONE, np.int64)
    found = 0
    for seed in range(count):
        if cluster[seed] != ALONE:
            continue
        for other in range(count):
            if near[seed, other] and cluster[other] == ALONE:
                cluster[other] = found
                cluster[seed] = found
        found += cluster[seed] != ALONE
    return cluster


@compiled
def _chained(joined: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Connected components (M,) of a symmetric (M, M) relation; a component of one box is ``ALONE``."""
    count = len(joined)
    cluster = np.full(count, ALONE, np.int64)
    pending = np.empty(count, np.int64)
    found = 0
    for seed in range(count):
        if cluster[seed] != ALONE or not joined[seed].any():
            continue
        cluster[seed] = found
        pending[0], waiting = seed, 1
        while waiting:
            waiting -= 1
            box = pending[waiting]
            for other in range(count):
                if joined[box, other] and cluster[other] == ALONE:
                    cluster[other] = found
                    pending[waiting] = other
                    waiting += 1
        found += 1
    return cluster
