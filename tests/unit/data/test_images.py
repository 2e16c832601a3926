"""Pictures of cameras and what their agents see; transforms agree with the pixels they move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Camera, Objects, PointSource, VisibilityMap
from opencood.data.images import build_image_augmentation, camera_inputs, image_planes
from opencood.data.pcd import read_points
from opencood.data.pictures import read_picture
from opencood.data.samples.labels import boxes_in_frame, seen_by_cameras
from opencood.errors import ConfigError, DataError
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.poses import x_to_world

CONF = {
    "resize_lim": [0.6, 0.9], "final_dim": [40, 60], "rot_lim": [-5.0, 5.0], "H": 80, "W": 100, "rand_flip": True,
    "bot_pct_lim": [0.0, 0.1], "cams": ["camera0", "camera1"], "Ncams": 2,
}  # fmt: skip
POSE = np.array([10.0, 20.0, 2.0, 0.0, 40.0, 0.0])
OPENCV_AXES = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def agent_with(folder: Path, objects: Objects, cameras: int = 2) -> Agent:
    rig = tuple(
        Camera(
            (x_to_world(np.array([0, 0, 0, 0, 90.0 * k, 0])) @ OPENCV_AXES).astype(np.float32),
            np.diag([50.0, 50, 1]),
            folder / f"camera{k}.png",
            folder / f"depth{k}.png",
        )
        for k in range(cameras)
    )
    lidar = PointSource(folder / "a.pcd", read_points)
    return Agent("1", POSE, POSE, objects, lidar, cameras=rig, visibility=VisibilityMap((folder / "seen.png",), POSE))


def nothing() -> Objects:
    return Objects(np.zeros(0, np.int64), np.zeros((0, 8, 3)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for k in range(2):
        Image.fromarray(random.integers(0, 256, (80, 100, 3), np.uint8)).save(tmp_path / f"camera{k}.png")
        Image.fromarray(random.integers(0, 256, (80, 100), np.uint8)).save(tmp_path / f"depth{k}.png")
    return tmp_path


def test_camera_entries(pictures: Path) -> None:
    augmentation = build_image_augmentation(CONF, "data_aug_conf")
    found = camera_inputs(agent_with(pictures, nothing()), augmentation, depth=True, train=False, draws=Draws.keyed(0))
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "imgs": (2, 40, 60, 4), "intrins": (2, 3, 3), "extrinsics": (2, 4, 4), "rots": (2, 3, 3), "trans": (2, 3),
        "post_rots": (2, 3, 3), "post_trans": (2, 3),
    }  # fmt: skip
    kinds = {name: value.dtype for name, value in found.items()}
    assert kinds == dict.fromkeys(shapes, np.float32) | {"imgs": np.uint8}
    forward = found["rots"][0] @ [0, 0, 1]
    np.testing.assert_allclose(
        forward, [1, 0, 0], atol=1e-6, err_msg="the optical axis of a camera along the LiDAR's x"
    )
    colour = camera_inputs(agent_with(pictures, nothing()), augmentation, depth=False, train=True, draws=Draws.keyed(0))
    assert image_planes(np.stack([colour["imgs"]] * 3)).shape == (3, 2, 3, 40, 60)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_the_homography_follows_a_bright_spot(seed: int) -> None:
    transform = build_image_augmentation(CONF, "data_aug_conf").draw(True, Draws.keyed(seed))
    picture = np.zeros((80, 100), np.uint8)
    spot = np.array([52.0, 50.0])
    picture[47:54, 49:56] = 255
    moved = np.asarray(transform.apply(Image.fromarray(picture)), np.float64)
    rows, columns = np.nonzero(moved > 127)
    rot, shift = transform.homography()
    expected = rot @ (spot + 0.5) + shift
    if len(rows) >= 9 and rows.min() > 0 and rows.max() < 39 and columns.min() > 0 and columns.max() < 59:
        np.testing.assert_allclose(
            [columns.mean() + 0.5, rows.mean() + 0.5], expected, atol=2.0, err_msg="nearest-pixel rotation"
        )


def test_objects_are_seen_where_the_map_is_marked(tmp_path: Path) -> None:
    """Heading is up in the map: an object ahead lies above the centre, one to the right on the right."""
    local = np.array([[10.0, 0, 0, 1.5, 2, 4, 0], [0, 10.0, 0, 1.5, 2, 4, 0], [70.0, 0, 0, 1.5, 2, 4, 0]])
    corners = boxes_to_corners_3d(local, "hwl").astype(np.float64)
    yaw = np.radians(POSE[4])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    objects = Objects(np.array([1, 2, 3]), corners @ turn.T + POSE[:3])
    agent = agent_with(tmp_path, objects)
    np.testing.assert_allclose(boxes_in_frame(objects, POSE, "hwl").boxes, local, atol=1e-5)
    ahead = np.zeros((256, 256, 3), np.uint8)
    ahead[:127] = 255
    Image.fromarray(ahead).save(tmp_path / "seen.png")
    assert seen_by_cameras(agent, "hwl").ids.tolist() == [1], "the third lies outside of the map"


def test_broken_pictures_are_named(pictures: Path) -> None:
    file = pictures / "camera1.png"
    file.write_bytes(file.read_bytes()[:200])
    augmentation = build_image_augmentation(CONF, "data_aug_conf")
    with pytest.raises(DataError, match=r"camera1\.png: picture cannot be read"):
        camera_inputs(agent_with(pictures, nothing()), augmentation, depth=False, train=False, draws=Draws.keyed(0))
    with pytest.raises(DataError, match=r"nowhere\.png"):
        read_picture(pictures / "nowhere.png", "RGB")
    with pytest.raises(DataError, match="names camera1, the metadata file does not"):
        camera_inputs(agent_with(pictures, nothing(), 1), augmentation, depth=False, train=False, draws=Draws.keyed(0))
    with pytest.raises(ConfigError, match="missing H"):
        build_image_augmentation({key: CONF[key] for key in CONF if key != "H"}, "data_aug_conf")


def test_cameras_that_no_one_lists_are_all_four() -> None:
    unlisted = {key: CONF[key] for key in CONF if key not in ("cams", "Ncams")}
    assert build_image_augmentation(unlisted, "data_aug_conf").cameras == (0, 1, 2, 3)
