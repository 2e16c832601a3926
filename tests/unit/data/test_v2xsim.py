"""V2X-Sim: frames in a pickle, clouds wherever they were put."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.errors import ConfigError, DataError
from opencood.geometry.boxes import corners_to_boxes
from opencood.geometry.poses import x_to_world
from tests.unit.data.conftest import cloud

Hypes = Callable[..., Any]
POSES = {1: [10.0, 20, 1.8, 0, 30, 0], 2: [14.0, 21, 1.8, 0.5, -80, 0.2], 3: [8.0, 15, 1.8, 0, 0, 0]}
CAR = [12.0, 24.0, 0.8, 4.5, 1.9, 1.6]
YAW = 0.7
CLUSTER = "/data1/somebody/v2xsim2-complete/"


def info(prefix: str, cars: list[list[float]] | None = None) -> dict[str, Any]:
    turn = [2 * np.cos(YAW / 2), 0, 0, 2 * np.sin(YAW / 2)]  # not of length one
    boxes = np.array([[*car, *turn] for car in ([CAR] if cars is None else cars)]).reshape(-1, 10)
    content: dict[str, Any] = {"token": "a7", "agent_num": 3, "timestamp": 1.5}
    for number, pose in POSES.items():
        content[f"lidar_path_{number}"] = f"{prefix}sweeps/{number}.bin"
        content[f"lidar_pose_{number}"] = x_to_world(pose)
        labels = {"gt_boxes_global": boxes, "gt_object_ids": np.arange(1001, 1001 + len(boxes))}
        content[f"labels_{number}"] = labels | {"gt_names": np.array(["car"] * len(boxes))}
    return content


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(infos, folder)`` stores the pickle in ``info/`` and the clouds in ``<folder>/sweeps/``."""

    def make(infos: Any, folder: str = "set") -> Path:
        for number in POSES:
            file = tmp_path / folder / f"sweeps/{number}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            points = cloud(200, seed=number)
            np.concatenate([points, np.ones((200, 1), np.float32)], axis=1).tofile(file)
        place = tmp_path / "set/info/v2xsim_infos_test.pkl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(pickle.dumps(infos))
        return place

    return make


@pytest.fixture
def v2xsim(hypes: Hypes) -> Hypes:
    """``v2xsim(pickle, method, ...)`` -> a configuration."""

    def make(place: Path, method: str = "intermediate", **changes: Any) -> Any:
        content = hypes(place, method, **changes)
        content["fusion"]["dataset"] = "v2xsim"
        return content

    return make


def test_a_frame(write: Callable[..., Path], v2xsim: Hypes) -> None:
    dataset = build_dataset(v2xsim(write([info("")])), train=False)
    frame = dataset.frame(0)
    assert frame.stamp == "a7" and [agent.id for agent in frame.agents] == ["1", "2", "3"]
    for agent, pose in zip(frame.agents, POSES.values(), strict=True):
        np.testing.assert_allclose(agent.lidar_pose, pose, atol=1e-9)
        np.testing.assert_array_equal(agent.lidar.read(), cloud(200, seed=int(agent.id)))
        assert agent.modality is None
        box = corners_to_boxes(agent.objects.corners, "lwh")
        np.testing.assert_allclose(box, [[*CAR, YAW]], atol=1e-9)
    batch = dataset.collate_batch_test([dataset[0]])["ego"]
    assert batch["object_ids"] == [1001] and batch["cav_id_list"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("stored", "folder", "prefixes"),
    [
        ("", "set", {}),
        ("", "set/info", {}),
        ("set/", "set", {}),
        (CLUSTER, "dataset/V2X-Sim-2.0", {}),
        ("/somewhere/else/", "moved", {"/somewhere/else": "moved"}),
        (CLUSTER, "moved", {CLUSTER: "moved"}),
    ],
)
def test_clouds_are_found_wherever_they_are(
    write: Callable[..., Path],
    v2xsim: Hypes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: str,
    folder: str,
    prefixes: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    place = write([info(stored)], folder)
    frame = build_dataset(v2xsim(place, path_prefixes=prefixes), train=False).frame(0)
    assert [len(agent.lidar.read()) for agent in frame.agents] == [200, 200, 200]


def test_a_lost_cloud_is_named(write: Callable[..., Path], v2xsim: Hypes) -> None:
    dataset = build_dataset(v2xsim(write([info("/nowhere/")])), train=False)
    with pytest.raises(DataError, match=r"lists the sweep '/nowhere/sweeps/1\.bin'.*path_prefixes"):
        dataset[0]


def test_training_shuffles_the_agents_of_every_frame(write: Callable[..., Path], v2xsim: Hypes) -> None:
    content = v2xsim(write([info("")] * 20), "intermediateheter", train_params={"max_cav": 2})
    dataset = build_dataset(content, train=True)
    orders = [[agent.id for agent in dataset.frame(index).agents] for index in range(20)]
    assert len({tuple(order) for order in orders}) > 3 and {len(order) for order in orders} == {2}
    assert {agent.modality for agent in dataset.frame(0).agents} == {"m1"}, "whatever the draws say"
    dataset.reader.replan(Draws.keyed(5))
    assert [[agent.id for agent in dataset.frame(index).agents] for index in range(20)] != orders


@pytest.mark.parametrize(("parity", "modalities"), [("published", ["m1"] * 3), ("fixed", ["m1", "m3", "m1"])])
def test_modalities_are_those_of_the_mapping_in_turn_unless_published(
    write: Callable[..., Path], v2xsim: Hypes, parity: str, modalities: list[str]
) -> None:
    content = v2xsim(write([info("")]), "intermediateheter", parity=parity)
    content["heter"]["mapping_dict"] = {"m1": "m1", "m2": "m3"}
    frame = build_dataset(content, train=False).frame(0)
    assert [agent.modality for agent in frame.agents] == modalities


def test_boxes_may_stick_out_of_the_range_by_a_metre_of_height(write: Callable[..., Path], v2xsim: Hypes) -> None:
    low, lower, higher = ([12.0, 24.0, z, 4.5, 1.9, 1.0] for z in (-1.5, -2.0, 3.0))
    for train in (True, False):
        dataset = build_dataset(v2xsim(write([info("", [CAR, low, lower, higher])])), train=train)
        assert sorted(dataset[0]["ego"]["object_ids"]) == [1001, 1002, 1004]


def test_frames_without_objects(write: Callable[..., Path], v2xsim: Hypes) -> None:
    dataset = build_dataset(v2xsim(write([info("", [])])), train=False)
    assert dataset[0]["ego"]["object_ids"] == []


def test_wrong_files_and_settings_are_named(write: Callable[..., Path], v2xsim: Hypes) -> None:
    for content in ({}, [], [1], [{"agent_num": 0}], [{"agent_num": "2"}]):
        with pytest.raises(DataError, match=r"validate_dir: .* must be a list of frames with 'agent_num'"):
            build_dataset(v2xsim(write(content)), train=False)
    broken = [({"lidar_pose_2": np.eye(3)}, "cannot reshape"), ({"labels_1": {}}, "missing key 'gt_boxes_global'")]
    for change, message in broken:
        dataset = build_dataset(v2xsim(write([info("") | change])), train=False)
        with pytest.raises(DataError, match=f"frame 0: {message}"):
            dataset[0]
    for change in ({"label_type": "camera"}, {"input_source": ["lidar", "camera"]}):
        with pytest.raises(ConfigError, match="neither images nor camera labels"):
            content = v2xsim(write([info("")]), **change)
            content["fusion"]["args"]["data_aug_conf"] = {
                "resize_lim": [1, 1], "final_dim": [8, 8], "rot_lim": [0, 0], "H": 8, "W": 8, "bot_pct_lim": [0, 0],
                "cams": [],
            }  # fmt: skip
            build_dataset(content, train=False)


def drive(numbers: list[int], stamps: list[float]) -> list[dict[str, Any]]:
    """Frames with so many agents at such instants; agent 2 moves a metre per frame along x."""
    infos = []
    for place, (agents, stamp) in enumerate(zip(numbers, stamps, strict=True)):
        content = info("") | {"agent_num": agents, "timestamp": stamp}
        pose = list(POSES[2])
        pose[0] += place
        infos.append(content | {"lidar_pose_2": x_to_world(pose), "lidar_path_2": f"sweeps/{1 + place % 3}.bin"})
    return infos


@pytest.mark.parametrize(("age", "origin"), [(0, 3), (100, 2), (200, 2), (300, 1), (9000, 1)])
@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_late_agents_show_an_earlier_frame_of_their_scene(
    write: Callable[..., Path], v2xsim: Hypes, age: float, origin: int, factor: float
) -> None:
    """Frames 1 to 3 are one scene at 5 Hz in which agent 2 appears with frame 1; frame 0 belongs to another one."""
    stamps = [factor * stamp for stamp in (1.5e9 + 70, 1.5e9, 1.5e9 + 0.2, 1.5e9 + 0.4)]
    place = write(drive([3, 3, 3, 3], stamps))
    frame = build_dataset(v2xsim(place, perturb={"delay": {"milliseconds": age}}), train=False).frame(3)
    late = frame.agents[1]
    assert frame.ego.delay == 0 and late.delay == 3 - origin
    assert late.lidar_pose[0] == pytest.approx(POSES[2][0] + origin)
    assert late.lidar.path.stem == str(1 + origin % 3)
    np.testing.assert_array_equal(late.lidar_pose, late.lidar_pose_clean)


def test_an_agent_is_not_older_than_its_first_frame(write: Callable[..., Path], v2xsim: Hypes) -> None:
    place = write(drive([1, 2, 2], [0.0, 0.2, 0.4]))
    frame = build_dataset(v2xsim(place, perturb={"delay": {"milliseconds": 900}}), train=False).frame(2)
    assert frame.agents[1].delay == 1


def test_nobody_is_late_without_time_stamps(write: Callable[..., Path], v2xsim: Hypes) -> None:
    infos = [{key: value for key, value in info("").items() if key != "timestamp"}]
    with pytest.raises(DataError, match="need a number 'timestamp'"):
        build_dataset(v2xsim(write(infos), perturb={"delay": {"milliseconds": 100}}), train=False)
