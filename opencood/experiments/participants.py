"""Who takes part in a sample: their clouds for pictures, and for early fusion what they send or keep to themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.communication import Channel
from opencood.communication.message import points_message
from opencood.config.flavor import quirk
from opencood.data.frame import Agent, Frame, PointSource
from opencood.data.plan import within_range
from opencood.experiments.fusion_methods import Batch
from opencood.geometry.points import remove_own_body
from opencood.geometry.poses import transform_points, x1_to_x2


def participants(dataset: Any, batch: Batch) -> list[Agent]:
    """The agents of a test batch in its order, the ego first."""
    known = {agent.id: agent for agent in dataset.frame(int(batch["ego"]["sample_idx"])).agents}
    return [known[str(name)] for entry in batch.values() for name in entry["cav_id_list"]]


def own_points(agent: Agent) -> NDArray[np.float32]:
    """(N, 4) points of an agent in its own frame, without its own body."""
    return remove_own_body(agent.lidar.read())


def clouds_in_ego(agents: list[Agent]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(N, 3) points of all agents in the frame of the first, by the poses they believe in, and (N,) whose they are."""
    clouds = []
    for agent in agents:
        transform = x1_to_x2(agent.lidar_pose, agents[0].lidar_pose).astype(np.float32)
        clouds.append(transform_points(own_points(agent), transform)[:, :3])
    owners = np.repeat(np.arange(len(agents)), [len(cloud) for cloud in clouds])
    return np.concatenate(clouds), owners


def send_points(agents: list[Agent], channel: Channel) -> None:
    """Put what the collaborators of early fusion send through the channel.

    The samples merged the same points already; the codec is exact, so only the sizes are of interest here.
    """
    for number, agent in enumerate(agents):
        if number and channel.takes_part(number):
            channel.transmit(points_message(own_points(agent)), sender=number, receiver=0)


class FirstAgents:
    """A reader in whose frames only the first agents in range of the ego have points; what the others list stays.

    Early fusion merges points before the detector, so agents that take no part are silenced where they are read.
    """

    def __init__(self, reader: Any, agents: int, hypes: Mapping[str, Any]) -> None:
        self._reader = reader
        self._agents = agents
        self._comm_range = float(hypes.get("comm_range", quirk(hypes, "default_comm_range")))

    @property
    def conventions(self) -> Any:
        """Those of the reader."""
        return self._reader.conventions

    def __len__(self) -> int:
        return len(self._reader)

    def frame(self, index: int) -> Frame:
        """The frame, with agents out of range left out and clouds beyond the first agents empty."""
        frame = within_range(self._reader.frame(index), self._comm_range)
        heard = frame.agents[: self._agents]
        silent = (
            replace(agent, lidar=PointSource(agent.lidar.path, _no_points)) for agent in frame.agents[self._agents :]
        )
        return replace(frame, agents=(*heard, *silent))

    def replan(self, *arguments: Any, **options: Any) -> None:
        """Passed on to the reader."""
        self._reader.replan(*arguments, **options)


def _no_points(_: Path) -> NDArray[np.float32]:
    return np.zeros((0, 4), np.float32)
