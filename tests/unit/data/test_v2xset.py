"""V2XSet: what differs from OPV2V, which it is written like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opencood.data.build import build_dataset
from tests.unit.data.conftest import AGENTS, OBJECTS

Write, Hypes = Callable[..., Path], Callable[..., Any]
THREE_CAMERAS = "2021_09_09_13_20_58"


@pytest.fixture
def v2xset(hypes: Hypes) -> Hypes:
    """``v2xset(root, ...)`` -> a configuration."""

    def make(root: Path, **changes: Any) -> Any:
        content = hypes(root, **changes)
        content["fusion"]["dataset"] = "v2xset"
        return content

    return make


def test_roadside_units_follow_the_vehicles(folder: Write, v2xset: Hypes) -> None:
    root = folder(AGENTS | {"-1": [103.0, 48.0, 4.0, 0.0, 10.0, 0.0]})
    frame = build_dataset(v2xset(root), train=False).frame(0)
    assert [(agent.id, agent.roadside) for agent in frame.agents] == [("1045", False), ("641", False), ("-1", True)]


def test_camera_labels_are_all_objects_in_a_fixed_range(folder: Write, v2xset: Hypes) -> None:
    """There are no visibility maps, and the range reaches farther than that of the configuration."""
    objects = dict(OBJECTS) | {9: (130.0, 60.0, 0.8, 0.0), 10: (160.0, 50.0, 0.8, 0.0)}
    content = v2xset(folder(objects=objects), label_type="camera")
    found = build_dataset(content, train=True)[0]["ego"]["object_ids"]
    assert sorted(found) == [7, 8, 9, 641, 1045]
    lidar = build_dataset(v2xset(Path(content["root_dir"])), train=True)[0]["ego"]["object_ids"]
    assert sorted(lidar) == [7, 8, 641, 1045]


def test_the_scenario_with_three_cameras_is_left_out_where_cameras_are_used(folder: Write, v2xset: Hypes) -> None:
    folder()
    root = folder(scenario=THREE_CAMERAS)
    content = v2xset(root, input_source=["lidar", "camera"], label_type="lidar")
    content["fusion"]["args"]["data_aug_conf"] = {
        "resize_lim": [1, 1], "final_dim": [8, 8], "rot_lim": [0, 0], "H": 8, "W": 8, "bot_pct_lim": [0, 0], "cams": [],
    }  # fmt: skip
    assert len(build_dataset(content, train=False)) == 2
    assert len(build_dataset(v2xset(root), train=False)) == 4
