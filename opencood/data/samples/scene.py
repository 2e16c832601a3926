"""Who takes part in a sample, and in whose frame it lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame
from opencood.data.plan import within_range
from opencood.geometry.points import remove_own_body
from opencood.geometry.poses import pairwise_transforms, transform_points, x1_to_x2

_SPEED_UNIT = 30  # km/h


@dataclass(frozen=True)
class Scene:
    """The agents of a sample.

    Attributes:
        frame: where it comes from.
        ego: owner of the frame of reference.
        agents: those that take part, at least one; the ego first unless it was dropped as published.
        unheard: those in range that would take part if their messages arrived.
        past_ego: late agents project to where the ego was when they observed, not to where it is.
    """

    frame: Frame
    ego: Agent
    agents: tuple[Agent, ...]
    unheard: tuple[Agent, ...] = ()
    past_ego: bool = False

    @property
    def witnesses(self) -> tuple[Agent, ...]:
        """The agents whose objects are ground truth, whether their messages arrive or not."""
        return (*self.agents, *self.unheard)

    def to_ego(self, agent: Agent) -> NDArray[np.float64]:
        """(4, 4) from the agent's frame to the ego's, by the poses they believe in."""
        return x1_to_x2(agent.lidar_pose, self._ego_pose(agent))

    def _ego_pose(self, agent: Agent) -> NDArray[np.float64]:
        """The ego's pose (6,) that an agent projects to."""
        late = self.past_ego and agent.ego_pose_then is not None
        return agent.ego_pose_then if late else self.ego.lidar_pose  # type: ignore[return-value]

    def motion(self, max_cav: int) -> dict[str, NDArray]:
        """What models of the OpenCOOD family ask for besides features, padded to L agents (spec coopre.md, 11.4).

        ``prior_encoding`` (L, 3) float32: speed over 30 km/h, delay in frames, 1 for a roadside unit; zeros behind.
        ``spatial_correction_matrix`` (L, 4, 4): from the ego's pose that the agent projected to, to the current one.
        """
        prior, correction = np.zeros((max_cav, 3), np.float32), np.tile(np.eye(4), (max_cav, 1, 1))
        for row, agent in enumerate(self.agents):
            prior[row] = agent.speed / _SPEED_UNIT, agent.delay, agent.roadside
            correction[row] = x1_to_x2(self._ego_pose(agent), self.ego.lidar_pose)
        return {"prior_encoding": prior, "spatial_correction_matrix": correction}

    def to_ego_clean(self, agent: Agent) -> NDArray[np.float64]:
        """(4, 4) from the agent's frame to the ego's, by the true poses."""
        return x1_to_x2(agent.lidar_pose_clean, self.ego.lidar_pose_clean)

    def transforms(self) -> dict[str, NDArray[np.float32]]:
        """``transformation_matrix`` and ``transformation_matrix_clean`` (n, 4, 4) float32: every agent to the ego."""
        believed = np.stack([self.to_ego(agent) for agent in self.agents])
        clean = np.stack([self.to_ego_clean(agent) for agent in self.agents])
        return {
            "transformation_matrix": believed.astype(np.float32),
            "transformation_matrix_clean": clean.astype(np.float32),
        }

    def pairwise(self, max_cav: int, proj_first: bool) -> NDArray[np.float64]:
        """(L, L, 4, 4); entry [i, j] maps agent i to agent j, by the poses they believe in."""
        return pairwise_transforms(self.poses, max_cav, proj_first)

    @property
    def poses(self) -> NDArray[np.float64]:
        """(n, 6) poses that the agents believe in."""
        return np.stack([agent.lidar_pose for agent in self.agents])

    @property
    def poses_clean(self) -> NDArray[np.float64]:
        """(n, 6) true poses."""
        return np.stack([agent.lidar_pose_clean for agent in self.agents])

    @property
    def ids(self) -> list[str]:
        """Names of the agents."""
        return [agent.id for agent in self.agents]


def gather(frame: Frame, comm_range: float, takes_part: Callable[[Agent], bool], elect_again: bool) -> Scene | None:
    """Return the agents in range that take part, or None when there are none.

    Args:
        comm_range: metres around the ego.
        takes_part: whether an agent's modality is known.
        elect_again: when the ego takes no part, the next agent that does becomes ego. Published systems keep the frame
            of the dropped ego for the ground truth although another agent leads (spec data.md, Q8).
    """
    if elect_again and not takes_part(frame.ego):
        known = tuple(agent for agent in frame.agents if takes_part(agent))
        if not known:
            return None
        frame = replace(frame, agents=known)
    near = within_range(frame, comm_range)
    agents = tuple(agent for agent in near.agents if takes_part(agent))
    unheard = tuple(agent for agent in near.unheard if takes_part(agent))
    return Scene(frame, frame.ego, agents, unheard) if agents else None


def shuffled(points: NDArray[np.float32], draws: Draws) -> NDArray[np.float32]:
    """Return the points in random order; decides which points a full voxel keeps."""
    return points.take(draws.numpy.permutation(len(points)), axis=0)


def own_cloud(agent: Agent, draws: Draws) -> NDArray[np.float32]:
    """Return an agent's cloud (N, 4) in its own frame, shuffled and without its own body."""
    return remove_own_body(shuffled(agent.lidar.read(), draws))


def projected(points: NDArray[np.float32], transform: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the points (N, 4) moved by a (4, 4) matrix, in float32 arithmetic."""
    return transform_points(points, transform.astype(np.float32))
