"""Published sensor data: decoded, placed and labelled as independent computations say. Skipped where it is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.config.loader import load_mapping
from opencood.data.build import build_dataset
from opencood.data.pcd import read_bin, read_points
from opencood.data.readers.dairv2x_metadata import common_objects
from opencood.geometry.poses import transform_points, x_to_world
from opencood.registry import REGISTRY

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "real"
FRAME = REAL / "v2xr_frame"
PAIR = REAL / "dair_v2x_c_frame"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="real frames are not here")


@pytest.fixture
def dataset() -> Any:
    case = yaml.safe_load((FRAME / "heal_loader" / "heal_case.yaml").read_text())
    content = case["config"] | {"yaml_parser": "load_general_params", "flavor": "heal"}
    content |= {"root_dir": str(FRAME / "test"), "validate_dir": str(FRAME / "test")}
    content["heter"]["assignment_path"] = None
    hypes = dict(load_mapping(content))
    hypes["modality_assignment"] = {"v2xr_demo_scene": dict.fromkeys(case["agents_in_order"], "m1")}
    return build_dataset(hypes, train=False)


@pytest.fixture
def pair() -> Any:
    """The vehicle and the roadside unit; the derived calibration and labels are told in PROVENANCE.md there."""
    case = yaml.safe_load((PAIR / "heal_loader" / "heal_case.yaml").read_text())
    folder = PAIR / "cooperative-vehicle-infrastructure"
    content = case["config"] | {"yaml_parser": "load_general_params", "flavor": "heal", "data_dir": str(folder)}
    content |= {"root_dir": str(folder / "train.json"), "validate_dir": str(folder / "val.json")}
    content["heter"]["assignment_path"] = None
    return build_dataset(load_mapping(content), train=False)


def test_the_batch_is_that_of_the_published_loader(dataset: Any) -> None:
    wanted = np.load(FRAME / "heal_loader" / "heal_loader.npz")
    batch = dataset.collate_batch_test([dataset[0]])["ego"]
    assert batch["cav_id_list"] == ["988", "999", "-1"]
    assert len(batch["object_ids"]) == 27
    check_batch(batch, wanted)


def test_the_batch_of_the_pair_is_that_of_the_published_loader(pair: Any) -> None:
    wanted = np.load(PAIR / "heal_loader" / "heal_loader.npz")
    batch = pair.collate_batch_test([pair[0]])["ego"]
    assert batch["cav_id_list"] == [0, 1] and batch["agent_modality_list"] == ["m1", "m1"]
    assert batch["record_len"].tolist() == wanted["record_len"].tolist()
    check_batch(batch, wanted)


def check_batch(batch: Any, wanted: Any) -> None:
    """Compare a batch with the digest of the published loader's."""
    agents = len(wanted["pairwise_t_matrix"])
    rows = [batch["object_ids"].index(name) for name in wanted["object_ids"]]
    assert len(batch["object_ids"]) == len(rows)
    close = {"rtol": 0, "atol": 1e-4}
    np.testing.assert_allclose(batch["object_bbx_center"][0].numpy()[rows], wanted["object_bbx_center"], **close)
    np.testing.assert_allclose(batch["pairwise_t_matrix"][0, :agents, :agents], wanted["pairwise_t_matrix"], **close)
    np.testing.assert_allclose(batch["lidar_pose"], wanted["lidar_pose"], **close)
    voxels = batch["inputs_m1"]
    order = np.lexsort(voxels["voxel_coords"].numpy().T[::-1])
    np.testing.assert_array_equal(voxels["voxel_coords"].numpy()[order], wanted["voxel_coords_sorted"])
    np.testing.assert_array_equal(voxels["voxel_num_points"].numpy()[order], wanted["voxel_num_points_sorted"])
    agent = voxels["voxel_coords"][:, 0]
    sums = np.stack([voxels["voxel_features"][agent == k].double().sum(dim=(0, 1)).numpy() for k in range(agents)])
    np.testing.assert_allclose(sums, wanted["point_sum_per_agent"], rtol=0.01, atol=0.01 * np.abs(sums).max())
    labels = batch["label_dict"]
    np.testing.assert_array_equal(np.argwhere(labels["pos_equal_one"].numpy()), wanted["pos_index"])
    assert labels["neg_equal_one"].sum() == wanted["neg_equal_one_sum"]
    np.testing.assert_allclose(labels["targets"].abs().sum(), wanted["targets_abs_sum"], rtol=1e-5)
    single = batch["label_dict_single"]["pos_equal_one"].sum(dim=(1, 2, 3))
    np.testing.assert_array_equal(single, wanted["single_pos_sum_per_agent"])
    np.testing.assert_allclose(batch["anchor_box"].reshape(-1, 7)[:4], wanted["anchor_first"], **close)


def test_both_sides_of_the_pair_hit_the_same_cars(pair: Any) -> None:
    """The registration: points of either LiDAR, brought to the world, inside every cooperative box."""
    expected = json.loads((PAIR / "expected.json").read_text())
    sides = ("vehicle", "infrastructure")
    boxes = common_objects(PAIR / "cooperative-vehicle-infrastructure/cooperative/label_world/017314.json").corners
    for agent, side in zip(pair.frame(0).agents, sides, strict=True):
        facts, cloud = expected[side], read_points(agent.lidar.path, drop_invalid=True)
        assert len(cloud) == facts["points"]
        np.testing.assert_array_equal(cloud[:3, :3], np.float32(facts["first_points"]))
        np.testing.assert_allclose(cloud[:, :3].mean(axis=0, dtype=np.float64), facts["xyz_mean"], atol=1e-5)
        low, high, mean = facts["intensity_min_max_mean"]
        assert (cloud[:, 3].min(), cloud[:, 3].max()) == (low, high)
        np.testing.assert_allclose(agent.lidar.read()[:, 3].mean(dtype=np.float64), mean / 256, rtol=1e-5)
        world = transform_points(cloud[:, :3].astype(np.float64), x_to_world(agent.lidar_pose))
        counted = [inside(world, box) for box in boxes]
        assert counted == [label[f"{side}_points"] for label in expected["cooperative_label"]]


def test_own_labels_of_both_sides_meet_in_the_world(pair: Any) -> None:
    """Almost every object that the roadside unit lists has one of the vehicle within two metres."""
    expected = json.loads((PAIR / "expected.json").read_text())
    folder = PAIR / "cooperative-vehicle-infrastructure"
    files = ("vehicle-side/label/lidar/017314.json", "infrastructure-side/label/virtuallidar/001366.json")
    centres = []
    for agent, file in zip(pair.frame(0).agents, files, strict=True):
        places = [
            [float(entry["3d_location"][axis]) for axis in "xyz"] for entry in json.loads((folder / file).read_text())
        ]
        centres.append(transform_points(np.array(places), x_to_world(agent.lidar_pose)))
    distances = np.linalg.norm(centres[1][:, None, :2] - centres[0][None, :, :2], axis=2).min(axis=1)
    assert (distances < 2).sum() == expected["infra_labels_matched_to_vehicle_labels"]


def test_every_object_holds_the_points_it_should(dataset: Any) -> None:
    expected = json.loads((FRAME / "expected.json").read_text())
    frame = dataset.frame(0)
    corners = {
        int(name): box
        for agent in frame.agents
        for name, box in zip(agent.objects.ids, agent.objects.corners, strict=True)
    }
    assert {str(name) for name in corners} == set(expected["objects"])
    for agent in frame.agents:
        facts, cloud = expected["agents"][agent.id], agent.lidar.read()
        assert len(cloud) == facts["lidar_points"]
        np.testing.assert_array_equal(cloud[:3, :3], np.float32(facts["first_points"]))
        np.testing.assert_array_equal(np.rint(cloud[:3, 3] * 255), facts["intensity_from_rgb_first"])
        np.testing.assert_allclose(cloud[:, 3].mean(dtype=np.float64), facts["intensity_mean"], atol=1e-7)
        np.testing.assert_array_equal(agent.lidar_pose, facts["lidar_pose"])
        assert sorted(agent.objects.ids.tolist()) == sorted(facts["objects_listed"])
        world = transform_points(cloud[:, :3].astype(np.float64), x_to_world(agent.lidar_pose))
        for name, box in corners.items():
            wanted = expected["objects"][str(name)]
            np.testing.assert_allclose(box.mean(axis=0), wanted["center_world"], atol=1e-3)
            assert inside(world, box) == wanted["points_by_agent"][agent.id], (agent.id, name)


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        *[(f"kitti_frames/training/velodyne/00000{number}.bin", 4) for number in range(2)],
        *[(f"kitti_frames/reduced_unlabelled/00000{number}.bin", 4) for number in range(6)],
        ("nuscenes_frame/n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951.pcd.bin", 5),
    ],
)
def test_sweeps_of_other_data_sets_become_voxels(file: str, columns: int) -> None:
    cloud = read_bin(REAL / file, columns)
    limits, size = [-51.2, -51.2, -3, 51.2, 51.2, 1], [0.4, 0.4, 4]
    arguments = {"voxel_size": size, "max_points_per_voxel": 32, "max_voxel_train": 10, "max_voxel_test": 70_000}
    voxels = REGISTRY.build(
        "preprocessor", "SpVoxelPreprocessor", arguments, cav_lidar_range=limits, train=False
    ).preprocess(cloud)
    low, high = np.float32(limits[:3]), np.float32(limits[3:])
    cells = np.floor((cloud[:, :3] - low) / np.float32(size)).astype(int)
    grid = np.rint((high - low) / np.float32(size)).astype(int)
    cells = cells[((cells >= 0) & (cells < grid)).all(axis=1)]
    unique, counts = np.unique(cells[:, ::-1], axis=0, return_counts=True)
    order = np.lexsort(voxels["voxel_coords"].T[::-1])
    np.testing.assert_array_equal(voxels["voxel_coords"][order], unique)
    np.testing.assert_array_equal(voxels["voxel_num_points"][order], np.minimum(counts, 32))
    assert len(unique) > 1000


def test_all_files_of_the_real_frame_can_be_read() -> None:
    for file in FRAME.rglob("*/000000.pcd"):
        assert read_points(file).shape[1] == 4


def inside(points: np.ndarray, box: np.ndarray) -> int:
    """How many points lie in a box given by its corners."""
    centre = box.mean(axis=0)
    count = np.ones(len(points), bool)
    for first, second in ((0, 3), (1, 0), (4, 0)):
        axis = (box[first] - box[second]) / 2
        count &= np.abs((points - centre) @ axis) <= axis @ axis
    return int(count.sum())
