"""What the simulator writes in the OPV2V format, its reader gives back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opencood.config.loader import load_mapping
from opencood.data.readers.opv2v_files import lower_resolution_tree
from opencood.experiments.build import build_dataset
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.geometry.poses import x_to_world
from opencood.simulation.camera.model import CameraModel
from opencood.simulation.presets import PRESETS, scenario_plans
from opencood.simulation.recording import Frame
from opencood.simulation.scenario import Scenario

RANGE = [-140.8, -140.8, -10, 140.8, 140.8, 10]
CAMERA = CameraModel(96, 64, 90.0)
PRESET = replace(
    PRESETS["mini"], scenarios=(1, 0, 1), agents=(2, 2), roadside=True, cameras=True, camera=CAMERA,
    fewer_beams=(32, 16),
)  # fmt: skip
# OpenCV camera axes (x right, y down, z forward) in UE axes.
OPENCV = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def world() -> list[Frame]:
    return [
        frame for plan in scenario_plans(PRESET, seed=4) if plan.split == "test" for frame in Scenario(plan).frames()
    ]


@pytest.fixture(scope="module", params=["OPV2V", "sim"])
def root(request, tmp_path_factory) -> Path:
    """A simulated data set in a folder whose name readers treat specially, and in one that they do not."""
    root = tmp_path_factory.mktemp("data") / request.param
    simulate(
        SimulationOptions(
            root, "mini", scenarios=(1, 0, 1), agents=(2, 2), rsu=True, cameras=True, extra_beams=(32, 16),
            image_size=(CAMERA.width, CAMERA.height), fov=CAMERA.fov, seed=4,
        )
    )  # fmt: skip
    return root


def dataset(root: Path, modality: str = "m1", **changes):
    images = {
        "H": CAMERA.height, "W": CAMERA.width, "final_dim": [CAMERA.height, CAMERA.width], "resize_lim": [1, 1],
        "bot_pct_lim": [0, 0], "rot_lim": [0, 0], "rand_flip": False, "cams": [f"camera{k}" for k in range(4)],
        "Ncams": 4,
    }  # fmt: skip
    voxels = {"voxel_size": [1.6, 1.6, 20], "max_points_per_voxel": 1, "max_voxel_train": 9, "max_voxel_test": 9}
    anchors = {"cav_lidar_range": RANGE, "l": 4, "w": 2, "h": 1.6, "r": [0, 90], "feature_stride": 8, "num": 2}
    targets = {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2}
    hypes = {
        "yaml_parser": "load_general_params",
        "root_dir": str(root / "train"),
        "validate_dir": str(root / "test"),
        "comm_range": 200,
        "input_source": ["lidar", "camera", "depth"],
        "label_type": "camera",
        "heter": {
            "assignment_path": str(root / "opv2v_4modality.json"),
            "ego_modality": modality,
            "mapping_dict": {f"m{k}": modality for k in range(1, 5)},
            "modality_setting": {
                "m1": {"sensor_type": "camera", "core_method": "lift_splat_shoot", "data_aug_conf": images},
                "m3": {
                    "sensor_type": "lidar",
                    "core_method": "point_pillar",
                    "preprocess": {"core_method": "SpVoxelPreprocessor", "args": voxels, "cav_lidar_range": RANGE},
                },
            },
            **changes,
        },
        "fusion": {"core_method": "lateheter", "dataset": "opv2v", "args": {}},
        "preprocess": {"core_method": "SpVoxelPreprocessor", "args": voxels, "cav_lidar_range": RANGE},
        "postprocess": {
            "core_method": "VoxelPostprocessor", "gt_range": RANGE, "anchor_args": anchors, "target_args": targets,
            "order": "hwl", "max_num": 150, "nms_thresh": 0.15,
        },
        "model": {"core_method": "none", "args": {}},
    }  # fmt: skip
    return build_dataset(load_mapping(hypes), train=False)


def pairs(world, data):
    """(frame, view, agent) of every agent, in the world and as read."""
    assert len(data) == len(world)
    for index, frame in enumerate(world):
        agents = {int(agent.id): agent for agent in data.frame(index).agents}
        assert set(agents) == {view.agent_id for view in frame.agents}
        for view in frame.agents:
            yield frame, view, agents[view.agent_id]


def test_poses_boxes_and_points_come_back(world, root):
    for frame, view, agent in pairs(world, dataset(root)):
        x, y, z, heading = view.sensor_pose
        assert agent.lidar_pose == pytest.approx([x, y, z, 0, (np.degrees(heading) + 180) % 360 - 180, 0], abs=1e-3)
        assert agent.lidar.read()[:, :3] == pytest.approx(view.points[:, :3], abs=1e-3)
        objects = frame.objects
        listed = objects.is_vehicle & (view.hits > 0) & (objects.ids != view.agent_id)
        assert sorted(agent.objects.ids) == sorted(objects.ids[listed])
        for number, corners in zip(agent.objects.ids, agent.objects.corners, strict=True):
            row = objects.ids.tolist().index(number)
            middle = [*objects.poses[row, :2], objects.half_sizes[row, 2]]
            assert corners.mean(axis=0) == pytest.approx(middle, abs=1e-3)
            sides = [np.linalg.norm(corners[a] - corners[b]) for a, b in ((0, 3), (0, 1), (0, 4))]
            assert sides == pytest.approx(2 * objects.half_sizes[row], abs=1e-3)


def test_cameras_come_back_with_their_matrices(world, root):
    for _, view, agent in pairs(world, dataset(root)):
        assert len(agent.cameras) == len(view.cameras) == 4
        x, y, z, heading = view.sensor_pose
        from_world = np.linalg.inv(x_to_world([x, y, z, 0, np.degrees(heading), 0]))
        for camera, taken in zip(agent.cameras, view.cameras, strict=True):
            assert camera.to_lidar == pytest.approx(from_world @ x_to_world(taken.pose) @ OPENCV, abs=1e-3)
            assert camera.intrinsic == pytest.approx(CAMERA.intrinsic, abs=1e-3)
            with Image.open(camera.image) as picture:
                assert (np.asarray(picture) == taken.image).all()
            with Image.open(camera.depth) as picture:
                depth = np.asarray(picture, np.float64)
            far = taken.depth > 255
            assert (depth[far] == 255).all() and np.abs(depth - taken.depth)[~far].max() <= 0.5 + 1e-6


def test_network_inputs_hold_the_depth(world, root):
    views, data = {view.agent_id: view for view in world[0].agents}, dataset(root)
    for entry in data.collate_batch_test([data[0]]).values():
        (pictures,) = entry["inputs_m1"]["imgs"].numpy()
        assert pictures.shape == (4, 4, CAMERA.height, CAMERA.width)
        (number,) = entry["cav_id_list"]
        taken = np.stack([np.minimum(camera.depth, 255) for camera in views[int(number)].cameras])
        assert np.abs(pictures[:, 3] - taken).max() <= 0.5 + 1e-6


def test_camera_labels_are_what_the_pictures_show(world, root):
    data = dataset(root)
    seen_by = {}
    for index, frame in enumerate(world):
        for entry in data[index].values():
            seen_by[index, int(entry["cav_id_list"][0])] = set(entry["object_ids"])
        for view in frame.agents:
            if view.agent_id < 0:
                continue  # a roadside unit's labels lie far below its sensor
            labels = seen_by[index, view.agent_id]
            listed = set(frame.objects.ids[frame.objects.is_vehicle & (view.hits > 0)].tolist()) - {view.agent_id}
            assert labels <= listed
            assert labels  # somebody is near
    assert sum(map(len, seen_by.values())) > 5


@pytest.mark.parametrize("beams", [32, 16])
def test_clouds_with_fewer_beams_come_back(world, root, beams):
    data = dataset(root, "m3", lidar_channels_dict={"m3": beams})
    for _, view, agent in pairs(world, data):
        points = agent.lidar.read()
        assert agent.lidar.path.name.endswith(f"_{beams}.pcd")
        assert points[:, :3] == pytest.approx(view.fewer_beams[beams][:, :3], abs=1e-3)


def test_the_tree_of_opv2v_h_comes_first(root):
    if root.name != "OPV2V":
        pytest.skip("only folders called OPV2V have a twin")
    data = dataset(root)
    beside = data.frame(0).ego.cameras[0].depth
    twin = lower_resolution_tree(beside)
    assert beside.exists() and twin != beside
    twin.parent.mkdir(parents=True)
    twin.write_bytes(beside.read_bytes())
    assert dataset(root).frame(0).ego.cameras[0].depth == twin


def test_more_sensors_change_nothing_of_the_others(world):
    bare = replace(PRESET, cameras=False, fewer_beams=())
    plans = [plan for plan in scenario_plans(bare, seed=4) if plan.split == "test"]
    for full, plain in zip(world, (frame for plan in plans for frame in Scenario(plan).frames()), strict=True):
        for with_all, without in zip(full.agents, plain.agents, strict=True):
            assert (with_all.points == without.points).all()
            assert not without.cameras and without.visibility is None and not without.fewer_beams
