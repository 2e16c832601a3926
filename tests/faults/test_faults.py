"""Damaged files of every format are reported or harmless; ``tests/faults/run.py`` does the same with larger numbers."""

from __future__ import annotations

import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.errors import DataError
from tests.faults import harness
from tests.faults.harness import Hang, attack, patience, read_all
from tests.faults.mutations import MUTATIONS, damage
from tests.faults.trees import TREES, Tree

FILES_PER_FORMAT = 200
GIGABYTE = 1 << 20  # of kilobytes, as the kernel counts


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """A fresh tree of the format that a test is run for."""
    return TREES[request.param](tmp_path / request.param)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("tree", TREES, indirect=True)
def test_damaged_files_are_reported_or_read_with_sane_values(tree: Tree) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = attack(tree, FILES_PER_FORMAT, seed=0)
    assert not outcome.faults, str(outcome)
    assert outcome.total == FILES_PER_FORMAT and len(outcome.reported) >= 12
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIGABYTE, "a damaged length was allocated"
    read_all(tree)  # the tree is whole again


@pytest.mark.parametrize("tree", ["opv2v"], indirect=True)
def test_damage_is_repeatable(tree: Tree) -> None:
    path = tree.files()[0]
    draws = [damage(path, path.read_bytes(), tree.files(), np.random.default_rng([3, k])) for k in range(40)]
    again = [damage(path, path.read_bytes(), tree.files(), np.random.default_rng([3, k])) for k in range(40)]
    assert draws == again and len({drawn.mutation for drawn in draws}) > len(MUTATIONS) // 2
    assert all(drawn.content != path.read_bytes() for drawn in draws)


@pytest.mark.parametrize("tree", ["v2xset"], indirect=True)
@pytest.mark.parametrize(
    ("reading", "complaint"),
    [
        (lambda: None, "nobody noticed"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: harness._sane([np.nan], 1, (1,)), "AssertionError"),
    ],
)
def test_the_harness_finds_faults(
    tree: Tree, reading: Callable[[], Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []

    def once_whole(tree: Tree) -> None:
        calls.append(None)
        if len(calls) > 1:
            reading()

    monkeypatch.setattr(harness, "read_all", once_whole)
    assert any(complaint in fault for fault in attack(tree, 20, seed=0).faults)


def test_the_watchdog_barks() -> None:
    with pytest.raises(Hang), patience(0.05):
        while True:
            pass


# Damage to calibration and labels that must be noticed: file, place in it, damaged value.

_IDENTITY = np.eye(4)
_SCALED, _MIRRORED, _SHEARED = 2 * _IDENTITY[:3, :3], np.diag([1, -1, 1]), _IDENTITY[:3, :3] + np.eye(3, k=1)
_ROTATIONS = [_SCALED.tolist(), _MIRRORED.tolist(), _SHEARED.tolist(), np.zeros((3, 3)).tolist(), [[1, 0], [0, 1]], "x"]
_TRANSLATIONS = [[[float("nan")], [0], [0]], [[1e30], [0], [0]], [[0], [0]], None]
_CAMERAS = [[0] * 9, [-50, 0, 20, 0, 50, 10, 0, 0, 1], [50, 0, 20, 0, 50, 10, 0, 1, 1], [50] * 8, [float("inf")] * 9]
_POSES = [[float("nan")] * 6, [1e30, 0, 0, 0, 0, 0], [0] * 5, "x", [[0] * 6], None]
_BOXES: list[tuple[str, Any]] = [
    ("extent", [-1, 1, 1]), ("extent", [1e5, 1, 1]), ("location", [float("inf"), 0, 0]), ("angle", [0, None, 0]),
    ("center", [0, 0]), ("location", "x"),
]  # fmt: skip


def place_in(content: Any, *keys: Any) -> tuple[Any, Any]:
    for key in keys[:-1]:
        content = content[key]
    return content, keys[-1]


def set_in(path: Path, keys: tuple[Any, ...], value: Any) -> None:
    """Replace one value in a JSON, YAML or pickle file."""
    load, dump = {
        ".json": (json.loads, lambda content: json.dumps(content).encode()),
        ".yaml": (yaml.safe_load, lambda content: yaml.safe_dump(content).encode()),
        ".pkl": (pickle.loads, pickle.dumps),
    }[path.suffix]
    content = load(path.read_bytes())
    holder, key = place_in(content, *keys)
    holder[key] = value
    path.write_bytes(dump(content))


def refused(tree: Tree, path: Path, keys: tuple[Any, ...], value: Any) -> None:
    """The damaged file is refused by name; the tree is whole again afterwards."""
    original = path.read_bytes()
    set_in(path, keys, value)
    with pytest.raises(DataError, match=path.name):
        read_all(tree)
    path.write_bytes(original)


@pytest.mark.parametrize("tree", ["opv2v", "v2xset", "v2xreal", "v2v4real"], indirect=True)
def test_impossible_poses_and_boxes_in_metadata(tree: Tree) -> None:
    path = next(file for file in tree.files() if file.suffix == ".yaml")
    for pose in _POSES:
        refused(tree, path, ("lidar_pose",), pose)
    for key, value in _BOXES:
        refused(tree, path, ("vehicles", 7, key), value)


@pytest.mark.parametrize("tree", ["opv2v"], indirect=True)
def test_impossible_cameras_in_metadata(tree: Tree) -> None:
    path = next(file for file in tree.files() if file.suffix == ".yaml")
    for camera in _CAMERAS:
        rows = np.array(camera).reshape(3, -1).tolist() if len(camera) == 9 else camera
        refused(tree, path, ("camera0", "intrinsic"), rows)
    for pose in _POSES:
        refused(tree, path, ("camera0", "cords"), pose)


@pytest.mark.parametrize("tree", ["v2v4real"], indirect=True)
def test_impossible_matrices_as_poses(tree: Tree) -> None:
    path = next(file for file in tree.files() if file.suffix == ".yaml")
    for rotation in (_SCALED, _MIRRORED, _SHEARED, np.zeros((3, 3))):
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        refused(tree, path, ("lidar_pose",), matrix.tolist())
    refused(tree, path, ("lidar_pose", 3), [0, 0, 1, 1])


@pytest.mark.parametrize("tree", ["dairv2x"], indirect=True)
def test_impossible_calibration_and_labels_of_pairs(tree: Tree) -> None:
    for side, kind in (
        ("vehicle", "novatel_to_world"), ("vehicle", "lidar_to_novatel"), ("vehicle", "lidar_to_camera"),
        ("infrastructure", "virtuallidar_to_world"), ("infrastructure", "virtuallidar_to_camera"),
    ):  # fmt: skip
        path = min((tree.folder / f"{side}-side/calib/{kind}").iterdir())
        inside = ("transform",) if kind == "lidar_to_novatel" else ()
        for rotation in _ROTATIONS:
            refused(tree, path, (*inside, "rotation"), rotation)
        for translation in _TRANSLATIONS:
            refused(tree, path, (*inside, "translation"), translation)
    for camera in _CAMERAS:
        refused(tree, min((tree.folder / "vehicle-side/calib/camera_intrinsic").iterdir()), ("cam_K",), camera)
    own = min((tree.folder / "vehicle-side/label/lidar").iterdir())
    refused(tree, own, (2, "3d_dimensions", "l"), -4.0)
    refused(tree, own, (2, "3d_location", "x"), "nan")
    refused(tree, own, (2, "rotation"), 1e30)
    common = min((tree.folder / "cooperative/label_world").iterdir())
    refused(tree, common, (0, "world_8_points", 3, 0), float("inf"))
    refused(tree, tree.folder / "cooperative/data_info.json", (0, "system_error_offset", "delta_x"), 1e19)


@pytest.mark.parametrize("tree", ["v2xsim"], indirect=True)
def test_impossible_values_in_pickles(tree: Tree) -> None:
    for value in (2 * np.eye(4), np.full((4, 4), np.nan), np.eye(3), None):
        refused(tree, tree.root, (0, "lidar_pose_1"), value)
    whole = np.array([[104.0, 55, 0.8, 4.5, 1.9, 1.6, 1, 0, 0, 0.2]])
    for column, value in ((0, np.inf), (3, -1.0), (4, 1e5), (slice(6, 10), 0.0)):
        boxes = whole.copy()
        boxes[0, column] = value
        refused(tree, tree.root, (0, "labels_1"), {"gt_boxes_global": boxes, "gt_object_ids": np.array([1])})
    for count in (0, -1, 10**9, 10**30, "2", 1.5):
        refused(tree, tree.root, (0, "agent_num"), count)


def test_a_pickle_cannot_ask_for_memory(tmp_path: Path) -> None:
    """``LONG_BINPUT`` with a large place makes the unpickler allocate a table of that size."""
    tree = TREES["v2xsim"](tmp_path / "v2xsim")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for place in (0x7FFFFFFF, 0x10000000):
        tree.root.write_bytes(b"\x80\x03]r" + place.to_bytes(4, "little") + b".")
        with pytest.raises(DataError, match="impossible instruction"):
            read_all(tree)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIGABYTE / 4


def test_nesting_that_would_end_the_process(tmp_path: Path) -> None:
    tree = TREES["v2xset"](tmp_path / "v2xset")
    path = next(file for file in tree.files() if file.suffix == ".yaml")
    for content in (b"[" * 100_000 + b"]" * 100_000, b"- " * 100_000, b"[1," * 50_000):
        path.write_bytes(content)
        with pytest.raises(DataError, match="levels of nesting"):
            read_all(tree)
