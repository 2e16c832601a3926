"""From a batch to a bird's-eye picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from opencood.data.build import gt_range_of
from opencood.data.frame import Agent
from opencood.evaluation.detections import FrameDetections
from opencood.experiments.participants import clouds_in_ego
from opencood.geometry.poses import x1_to_x2
from opencood.visualization.scene import AgentMark, BevScene, extent_of

_LEFT_HANDED = ("OPV2V", "V2XSET")


def scene_of(
    agents: list[Agent],
    found: FrameDetections,
    hypes: Mapping[str, Any],
    heard: int | None = None,
    scores: bool = True,
    title: str = "",
    subtitle: str = "",
) -> BevScene:
    """The scene of one frame with its detections.

    Args:
        agents: who takes part, the ego first.
        heard: only the points of so many agents were used; None = all.
        scores: label the detections.
        title: default: the name of the configuration.
    """
    points, owners = clouds_in_ego(agents[:heard])
    return BevScene(
        extent=extent_of(list(gt_range_of(hypes))),
        points=points,
        predictions=found.boxes,
        ground_truth=found.ground_truth,
        scores=found.scores if scores else None,
        agents=agent_marks(agents),
        point_agents=owners,
        left_hand=is_left_handed(hypes),
        title=title or str(hypes.get("name", "")),
        subtitle=subtitle,
    )


def agent_marks(agents: list[Agent]) -> tuple[AgentMark, ...]:
    """Where the agents stand, seen from the first, by the poses they believe in."""
    return tuple(_mark(agent, agents[0], "ego" if agent is agents[0] else agent.id) for agent in agents)


def is_left_handed(hypes: Mapping[str, Any]) -> bool:
    """Whether y points to the right: OPV2V and V2XSET, by path (as published) or by declared format."""
    path = str(hypes.get("test_dir", "")).upper()
    declared = str((hypes.get("fusion") or {}).get("dataset", "")).upper()
    return any(name in path or name == declared for name in _LEFT_HANDED)


def _mark(agent: Agent, ego: Agent, name: str) -> AgentMark:
    transform = x1_to_x2(agent.lidar_pose, ego.lidar_pose)
    yaw = math.atan2(transform[1, 0], transform[0, 0])
    return AgentMark(name, float(transform[0, 3]), float(transform[1, 3]), yaw, agent.modality or "")
