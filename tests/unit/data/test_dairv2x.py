"""DAIR-V2X-C: calibration chains, label sets and the rule of who is ego, on made pairs of a vehicle and a unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opencood.data.build import build_dataset
from opencood.data.frame import Frame
from opencood.errors import DataError
from opencood.geometry.boxes import boxes_to_corners_3d, corners_to_boxes
from opencood.geometry.poses import tfm_to_pose, transform_points, x_to_world
from tests.unit.data.conftest import RANGE

Hypes = Callable[..., Any]
VEHICLES, UNITS = ("015000", "015003"), ("009000", "009007")
NOVATEL = [1995.0, 516.0, 2.2, 0.4, 53.0, -0.3]
MOUNT = [0.1, 0.5, -0.35, 0.0, 90.0, 0.0]
UNIT = [2001.0, 520.0, 6.5, 0.2, -120.0, 0.1]
OFFSET = {"delta_x": -0.08, "delta_y": 0.9}
CAMERA = [0.05, -0.3, -0.6, 0.0, 0.0, 0.0]
# x, y, z, h, w, l, yaw in the world
CARS = np.array([[1999.0, 522.0, 1.0, 1.5, 1.9, 4.4, 0.3], [1991.0, 512.0, 1.1, 2.5, 2.2, 6.0, -1.2]])
VOXELS = {"voxel_size": [0.4, 0.4, 4], "max_points_per_voxel": 32, "max_voxel_train": 8000, "max_voxel_test": 9000}
LIDAR = {
    "sensor_type": "lidar",
    "core_method": "none",
    "preprocess": {"core_method": "SpVoxelPreprocessor", "args": VOXELS, "cav_lidar_range": RANGE},
}


def vehicle_to_world() -> np.ndarray:
    return x_to_world(NOVATEL) @ x_to_world(MOUNT)


def dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def calibration(matrix: np.ndarray) -> dict[str, Any]:
    return {"rotation": matrix[:3, :3].tolist(), "translation": matrix[:3, 3:].tolist()}


def listed(to_world: np.ndarray, cars: np.ndarray, as_text: bool = False) -> list[dict[str, Any]]:
    """Entries of a single-side file, in the LiDAR frame, with things between them that are no vehicles."""
    corners = transform_points(boxes_to_corners_3d(cars, "hwl").astype(np.float64), np.linalg.inv(to_world))
    entries = [entry("Pedestrian", [3.0, 3, 0, 1.7, 0.6, 0.6, 0.0]), entry("Car", [5.0, 3, 0, 0, 1.0, 2.0, 0.0])]
    number = str if as_text else float
    return entries + [
        entry("Car", [number(v) for v in box[:3]] + box[3:].tolist()) for box in corners_to_boxes(corners, "hwl")
    ]


def entry(kind: str, box: list[Any]) -> dict[str, Any]:
    x, y, z, h, w, l, yaw = box  # noqa: E741
    return {
        "type": kind,
        "3d_location": {"x": x, "y": y, "z": z},
        "3d_dimensions": {"h": h, "w": w, "l": l},
        "rotation": yaw,
    }


def write_cloud(path: Path, intensity: float) -> None:
    """Sixty points and one that is NaN."""
    points = np.random.default_rng(3).uniform(2, 6, (61, 4)).astype("<f4")
    points[:, 2:] = -1, intensity
    points[7, 1] = np.nan
    header = "VERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"{header}WIDTH 61\nHEIGHT 1\nPOINTS 61\nDATA binary\n".encode() + points.tobytes())


def write_tree(folder: Path) -> Path:
    """Write a data folder with two frames; the vehicle sees both cars, its camera one, the roadside unit the second."""
    unit = x_to_world(UNIT)
    shifted = unit.copy()
    shifted[:2, 3] -= list(OFFSET.values())
    camera = x_to_world(CAMERA)
    corners = boxes_to_corners_3d(CARS, "hwl").tolist()
    info = []
    for vehicle, infra in zip(VEHICLES, UNITS, strict=True):
        info.append(
            {
                f"{side}_{kind}_path": f"{side}-side/{place}/{name}.{ending}"
                for side, name in (("vehicle", vehicle), ("infrastructure", infra))
                for kind, place, ending in (("image", "image", "jpg"), ("pointcloud", "velodyne", "pcd"))
            }
            | {"system_error_offset": OFFSET}
        )
        side = folder / "vehicle-side"
        dump(side / f"calib/lidar_to_novatel/{vehicle}.json", {"transform": calibration(x_to_world(MOUNT))})
        dump(side / f"calib/novatel_to_world/{vehicle}.json", calibration(x_to_world(NOVATEL)))
        dump(side / f"calib/lidar_to_camera/{vehicle}.json", calibration(camera))
        dump(side / f"calib/camera_intrinsic/{vehicle}.json", {"cam_K": [50, 0, 20, 0, 50, 10, 0, 0, 1]})
        dump(side / f"label/lidar/{vehicle}.json", listed(vehicle_to_world(), CARS))
        dump(side / f"label/lidar_backup/{vehicle}.json", listed(vehicle_to_world(), CARS[:1]))
        write_cloud(side / f"velodyne/{vehicle}.pcd", 128)
        side = folder / "infrastructure-side"
        dump(side / f"calib/virtuallidar_to_world/{infra}.json", calibration(shifted))
        dump(side / f"calib/virtuallidar_to_camera/{infra}.json", calibration(camera))
        dump(side / f"calib/camera_intrinsic/{infra}.json", {"cam_K": [50, 0, 20, 0, 50, 10, 0, 0, 1]})
        dump(side / f"label/virtuallidar/{infra}.json", listed(unit, CARS[1:], as_text=True))
        write_cloud(side / f"velodyne/{infra}.pcd", 0.5)
        dump(folder / f"cooperative/label_world/{vehicle}.json", [{"world_8_points": points} for points in corners])
        dump(folder / f"cooperative/label_world_backup/{vehicle}.json", [{"world_8_points": corners[0]}])
    dump(folder / "cooperative/data_info.json", info[::-1])
    dump(folder / "train.json", list(VEHICLES))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with two frames."""
    return write_tree(tmp_path / "dair")


@pytest.fixture
def dair(root: Path, hypes: Hypes) -> Hypes:
    """``dair(method, ...)`` -> a configuration of the made folder."""

    def make(method: str = "intermediate", ego: str = "m1", **changes: Any) -> Any:
        content = hypes(root / "train.json", method, data_dir=str(root), **changes)
        content["fusion"]["dataset"] = "dairv2x"
        if "heter" in content:
            content["heter"] |= {"ego_modality": ego, "mapping_dict": {"m1": "m1", "m2": "m2"}}
            content["heter"]["modality_setting"] = {"m1": LIDAR, "m2": LIDAR}
        return content

    return make


def first(content: Any, **options: Any) -> Frame:
    return build_dataset(content, train=False, **options).frame(0)


def test_both_sides_find_their_place_in_the_world(dair: Hypes) -> None:
    frame = first(dair())
    assert frame.stamp == "015000", "the split file gives the order, not data_info.json"
    vehicle, unit = frame.agents
    np.testing.assert_allclose(x_to_world(vehicle.lidar_pose), vehicle_to_world(), atol=1e-9)
    np.testing.assert_allclose(unit.lidar_pose, UNIT, atol=1e-9, err_msg="the system error is added back")


def test_common_labels_hang_on_the_vehicle(dair: Hypes) -> None:
    vehicle, unit = first(dair()).agents
    np.testing.assert_allclose(vehicle.objects.corners, boxes_to_corners_3d(CARS, "hwl"))
    assert vehicle.objects.ids.tolist() == [0, 1] and not len(unit.objects.ids)
    assert vehicle.camera_objects is None, "not wanted, so not read"
    camera = first(dair(label_type="camera")).ego.camera_objects
    assert camera is not None and camera.ids.tolist() == [0]


@pytest.mark.parametrize("method", ["late", "intermediateheter", "lateheter"])
def test_own_labels_count_every_object_and_keep_vehicles(dair: Hypes, method: str) -> None:
    vehicle, unit = first(dair(method)).agents
    np.testing.assert_allclose(vehicle.objects.corners, boxes_to_corners_3d(CARS, "hwl"), atol=0.1)
    np.testing.assert_allclose(unit.objects.corners, boxes_to_corners_3d(CARS[1:], "hwl"), atol=0.1)
    assert vehicle.objects.ids.tolist() == [1, 2], "the pedestrian has id 0, the car without height none"
    assert unit.objects.ids.tolist() == [1]


def test_the_same_car_seen_by_both_is_one_object(dair: Hypes) -> None:
    dataset = build_dataset(dair("intermediateheter"), train=False)
    batch = dataset.collate_batch_test([dataset[0]])
    assert batch["ego"]["object_ids"] == [0, 1]
    assert batch["ego"]["cav_id_list"] == [0, 1]
    dataset = build_dataset(dair("late"), train=False)
    samples = dataset.collate_batch_test([dataset[0]])
    assert list(samples) == ["ego", "1"]
    assert dataset.post_process(samples, {})[2].shape == (2, 8, 3)


@pytest.mark.parametrize(("parity", "shift"), [("published", np.sqrt(2)), ("fixed", 0.0)])
def test_own_labels_of_a_noisy_agent(dair: Hypes, parity: str, shift: float) -> None:
    """Published: an agent's own list travels with its wrong pose; fixed: the ground truth is true."""
    noise = {"add_noise": True, "args": {"pos_std": 0, "rot_std": 0, "pos_mean": 1, "rot_mean": 0}}
    true, found = (
        build_dataset(dair("intermediateheter", parity=parity, **extra), train=False)[0]["ego"]["object_bbx_center"][:2]
        for extra in ({}, {"noise_setting": noise})
    )
    np.testing.assert_allclose(np.linalg.norm((found - true)[:, :2], axis=1), shift, atol=1e-3)


def test_the_roadside_unit_leads_where_only_it_may(dair: Hypes) -> None:
    unit_pose = pytest.approx(np.array(UNIT), abs=1e-6)
    led = first(dair("intermediateheter", ego="m2"))
    assert [(agent.id, agent.modality) for agent in led.agents] == [("0", "m2"), ("1", "m1")]
    assert led.ego.lidar_pose == unit_pose and [agent.roadside for agent in led.agents] == [True, False]
    for ego in ("m1", "m1&m2", "m3"):
        usual = first(dair("intermediateheter", ego=ego))
        assert [agent.modality for agent in usual.agents] == ["m1", "m2"]
        assert usual.agents[1].lidar_pose == unit_pose


def test_training_lets_each_side_lead_half_of_the_time(dair: Hypes) -> None:
    dataset = build_dataset(dair("intermediateheter", ego="m1&m2"), train=True)
    leads, egos = [], set()
    for epoch in range(60):
        dataset.reinitialize(epoch)
        leads.append(dataset.frame(0).ego.lidar_pose[0] == pytest.approx(UNIT[0]))
        egos.add(dataset.frame(0).ego.modality)
    assert 15 < sum(leads) < 45 and egos == {"m1", "m2"}
    dataset.reinitialize(3)
    assert (dataset.frame(0).ego.lidar_pose[0] == pytest.approx(UNIT[0])) == leads[3]


def test_max_cav_cuts(dair: Hypes) -> None:
    assert len(first(dair(train_params={"max_cav": 1})).agents) == 1


@pytest.mark.parametrize(("parity", "vehicle", "unit"), [("published", 0.5, 0.5 / 256), ("fixed", 0.5, 0.5)])
def test_clouds_lose_invalid_points_and_scale_intensity(dair: Hypes, parity: str, vehicle: float, unit: float) -> None:
    for agent, wanted in zip(first(dair(parity=parity)).agents, (vehicle, unit), strict=True):
        cloud = agent.lidar.read()
        assert len(cloud) == 60
        np.testing.assert_allclose(cloud[:, 3], wanted)


def test_cameras_come_with_their_calibration(dair: Hypes) -> None:
    content = dair("intermediateheter", input_source=["lidar", "camera"])
    for agent in first(content).agents:
        (camera,) = agent.cameras
        np.testing.assert_allclose(camera.to_lidar, np.linalg.inv(x_to_world(CAMERA)), atol=1e-6)
        np.testing.assert_array_equal(camera.intrinsic, [[50, 0, 20], [0, 50, 10], [0, 0, 1]])
        assert camera.image.suffix == ".jpg" and camera.depth is None


def test_cameras_beyond_the_one_there_is_are_left_out(root: Path, dair: Hypes) -> None:
    content = dair("intermediateheter", input_source=["lidar", "camera"])
    conf = {
        "resize_lim": [1, 1], "final_dim": [8, 12], "rot_lim": [0, 0], "H": 16, "W": 24, "bot_pct_lim": [0, 0],
        "cams": ["camera0", "camera1", "camera2", "camera3"], "Ncams": 4,
    }  # fmt: skip
    content["heter"]["modality_setting"]["m2"] = {"sensor_type": "camera", "core_method": "x", "data_aug_conf": conf}
    picture = root / f"infrastructure-side/image/{UNITS[0]}.jpg"
    picture.parent.mkdir()
    Image.new("RGB", (24, 16)).save(picture)
    dataset = build_dataset(content, train=False)
    assert dataset.collate_batch_test([dataset[0]])["ego"]["inputs_m2"]["imgs"].shape == (1, 1, 3, 8, 12)
    content["input_source"].append("depth")
    with pytest.raises(DataError, match="this data set has no depth"):
        build_dataset(content, train=False)[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.json", {}, "must be a list of vehicle frames"),
        ("train.json", ["015000", "999999"], "1 frame.s. of .* are not in .*first: 999999"),
        ("cooperative/data_info.json", [{"vehicle_image_path": "a"}], "an entry lacks 'infrastructure_image_path'"),
        ("vehicle-side/calib/novatel_to_world/015000.json", {"rotation": [[1]]}, "no rotation .3 x 3."),
        ("cooperative/label_world/015000.json", [{}], "an object has no world_8_points"),
        ("cooperative/label_world/015000.json", None, "cannot be read"),
    ],
)
def test_broken_files_are_named(root: Path, dair: Hypes, file: str, content: Any, message: str) -> None:
    (root / file).unlink()
    if content is not None:
        dump(root / file, content)
    with pytest.raises(DataError, match=message) as raised:
        first(dair())
    assert Path(file).name in str(raised.value)


def side_info(root: Path, side: str, frames: dict[str, tuple[str, int]]) -> None:
    """``frames``: name -> (drive, microseconds since 1970)."""
    entries = [
        {"pointcloud_path": f"velodyne/{name}.pcd", "batch_id": drive, "pointcloud_timestamp": str(stamp)}
        for name, (drive, stamp) in frames.items()
    ]
    dump(root / f"{side}-side/data_info.json", entries)


@pytest.mark.parametrize(("age", "source"), [(50, 0), (100, 0), (120, 1), (210, 2), (900, 2)])
@pytest.mark.parametrize("stamped", [True, False])
def test_a_late_unit_shows_an_earlier_frame_of_its_drive(
    root: Path, dair: Hypes, age: float, source: int, stamped: bool
) -> None:
    """Unpaired frames count: the newest one of the same drive that is old enough, whatever its number."""
    start, unit = 1_626_155_123_000_000, UNITS[0]
    names = ["888001", "888000", "888002"]  # 100, 150 and 210 ms before the paired one
    earlier = dict(zip(names, (start - 100_000, start - 150_000, start - 210_000), strict=True))
    drives = {name: ("3", stamp) for name, stamp in earlier.items()} | {unit: ("3", start), UNITS[1]: ("4", start - 1)}
    side_info(root, "infrastructure", drives)
    side_info(root, "vehicle", dict.fromkeys(VEHICLES[:1], ("1", start)) | {VEHICLES[1]: ("2", start)})
    side = root / "infrastructure-side"
    for number, name in enumerate(names):
        place = x_to_world(UNIT)
        place[0, 3] += number + 1
        dump(side / f"calib/virtuallidar_to_world/{name}.json", calibration(place))
        write_cloud(side / f"velodyne/{name}.pcd", 0.5)
    now = first(dair())
    setting = {"asynchrony": {"milliseconds": 0.0, "stamped": stamped}, "delay": {"milliseconds": float(age)}}
    late = first(dair(perturb=setting))
    assert late.ego.lidar.path == now.ego.lidar.path and late.ego.delay == 0
    assert late.agents[1].lidar.path.stem == names[source]
    moved = late.agents[1].lidar_pose_clean - now.agents[1].lidar_pose_clean
    np.testing.assert_allclose(moved[0], source + 1 + OFFSET["delta_x"], atol=1e-6)
    np.testing.assert_array_equal(late.agents[1].lidar_pose, late.agents[1].lidar_pose_clean)
    np.testing.assert_array_equal(late.ego.objects.corners, now.ego.objects.corners)


@pytest.mark.parametrize("content", [None, [{"batch_id": "1"}], {}, [{"pointcloud_path": 3}]])
def test_nobody_is_late_without_time_stamps(root: Path, dair: Hypes, content: Any) -> None:
    if content is not None:
        dump(root / "vehicle-side/data_info.json", content)
    with pytest.raises(DataError, match=r"delay, asynchrony|delay and asynchrony need") as raised:
        first(dair(perturb={"delay": {"milliseconds": 100}}))
    assert "data_info.json" in str(raised.value)


def test_poses_survive_six_numbers(dair: Hypes) -> None:
    """Right-handed matrices pass through the pose of six numbers unchanged."""
    matrix = vehicle_to_world()
    np.testing.assert_allclose(x_to_world(tfm_to_pose(matrix)), matrix, atol=1e-9)
