"""V2V4Real: poses as matrices, boxes in the frame of the agent that lists them, ids that link agents."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.data.build import build_dataset
from opencood.data.frame import Frame
from opencood.errors import ConfigError
from opencood.geometry.boxes import corners_to_boxes
from opencood.geometry.poses import tfm_to_pose, x_to_world
from tests.unit.data.conftest import cloud, pcd_bytes

Hypes = Callable[..., Any]
POSES = {"0": [100.0, 50.0, 2.0, 1.0, 35.0, 0.5], "1": [104.0, 52.0, 2.0, 0.0, -140.0, 0.0]}
BOX = {"location": [6.0, -2.0, -1.0], "center": [0.0, 0.0, 0.1], "angle": [0.0, -15.0, 0.0], "extent": [2.1, 0.9, 0.8]}


def vehicles(agent: str) -> dict[int, Any]:
    far = BOX | {"location": [-5.0, 4.0 + int(agent), -1.0]}
    return {
        1 + int(agent): BOX | {"obj_type": "Car", "ass_id": 7},
        4: far | {"obj_type": "Truck", "ass_id": -1},
        5: far,
        6: far | {"obj_type": "Pedestrian", "ass_id": 6},
    }


def write(root: Path, file: str, document: Mapping[str, Any], points: np.ndarray) -> None:
    place = root / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.dump(dict(document)))
    place.with_suffix(".pcd").write_bytes(pcd_bytes(points))


@pytest.fixture
def v2v4real(hypes: Hypes, tmp_path: Path) -> Hypes:
    """``v2v4real(method, encode, ...)`` -> a configuration of a made folder whose poses are encoded so."""

    def make(method: str = "intermediate", encode: Callable[[Any], Any] = lambda m: m.tolist(), **changes: Any) -> Any:
        for agent, pose in POSES.items():
            document = {"lidar_pose": encode(x_to_world(pose)), "vehicles": vehicles(agent)}
            write(tmp_path / "data", f"s/{agent}/000000.yaml", document, cloud(200, seed=int(agent)))
            (tmp_path / f"data/s/{agent}/000000_camera_gt.yaml").write_text("{}")
        content = hypes(tmp_path / "data", method, **changes)
        content["fusion"]["dataset"] = "v2v4real"
        return content

    return make


def first(content: Any) -> Frame:
    return build_dataset(content, train=False).frame(0)


def box_in_its_lidar(frame: Frame, agent: int) -> np.ndarray:
    """The first object of an agent, in the LiDAR frame of that agent."""
    corners = frame.agents[agent].objects.corners[:1]
    inverse = np.linalg.inv(x_to_world(POSES[str(agent)]))
    return corners_to_boxes(corners @ inverse[:3, :3].T + inverse[:3, 3], "lwh")[0]


@pytest.mark.parametrize("encode", [lambda matrix: matrix.tolist(), lambda matrix: matrix], ids=["lists", "array"])
def test_poses_are_matrices_and_boxes_are_in_the_lidar_frame(v2v4real: Hypes, encode: Any) -> None:
    frame = first(v2v4real(encode=encode))
    for number, agent in enumerate(frame.agents):
        np.testing.assert_allclose(agent.lidar_pose, POSES[agent.id], atol=1e-9)
        expected = [6.0, -2.0, -0.9, 4.2, 1.8, 1.6, np.radians(-15)]
        np.testing.assert_allclose(box_in_its_lidar(frame, number), expected, atol=1e-9)


def test_ids_link_agents_and_pedestrians_are_left_out(v2v4real: Hypes) -> None:
    frame = first(v2v4real())
    assert [agent.objects.ids.tolist() for agent in frame.agents] == [[7, 4, 5], [7, 104, 5]]


@pytest.mark.parametrize(
    ("changes", "in_world"), [({}, True), ({"box_frame": "lidar"}, False), ({"isSim": True}, True)]
)
def test_six_numbers_go_with_boxes_in_the_world(v2v4real: Hypes, changes: Any, in_world: bool) -> None:
    frame = first(v2v4real(encode=lambda matrix: tfm_to_pose(matrix).tolist(), **changes))
    centre = frame.ego.objects.corners[0].mean(axis=0)
    assert np.allclose(centre, [6.0, -2.0, -0.9]) is in_world
    with pytest.raises(ConfigError, match="box_frame: .* lidar, world"):
        first(v2v4real(box_frame="ego"))


def test_vehicles_of_heterogeneous_data_take_turns(v2v4real: Hypes) -> None:
    content = v2v4real("intermediateheter")
    setting = content["heter"]["modality_setting"]
    content["heter"] |= {"mapping_dict": {"m1": "m1", "m2": "m2"}, "modality_setting": setting | {"m2": setting["m1"]}}
    assert [agent.modality for agent in first(content).agents] == ["m1", "m2"]


def test_the_range_of_communication_is_unlimited_unless_given(v2v4real: Hypes) -> None:
    content = v2v4real()
    del content["comm_range"]
    file = Path(content["validate_dir"]) / "s/1/000000.yaml"
    document = yaml.safe_load(file.read_text())
    document["lidar_pose"][0][3] += 90
    file.write_text(yaml.safe_dump(document))
    dataset = pickle.loads(pickle.dumps(build_dataset(content, train=False)))
    assert dataset[0]["ego"]["agents"] == 2, "also in a loader worker"
    assert build_dataset(content | {"comm_range": 70}, train=False)[0]["ego"]["agents"] == 1
