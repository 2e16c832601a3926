"""What pretraining needs: data without labels, a second grid, thinned clouds, and how agents move."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.data.augment import build_augmentation
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.errors import ConfigError, DataError
from opencood.experiments.sanity import check_start
from opencood.geometry.poses import x1_to_x2
from opencood.registry import REGISTRY
from opencood.training.step import has_objects
from tests.unit.data.conftest import AGENTS, RANGE, cloud
from tests.unit.data.test_combined import write_v2v4real, write_v2xreal
from tests.unit.data.test_samples import METHODS, opened_files

Write = Callable[..., Path]
Hypes = Callable[..., Any]
SHARED = Path(__file__).resolve().parents[4] / "shared"
DAIR = SHARED / "data/dair_v2x_tiny/cooperative-vehicle-infrastructure"
V2XSIM = SHARED / "data/v2xsim_tiny/v2xsim2_info"
TOLD = ("object_bbx", "targets", "pos_equal_one", "neg_equal_one")


def strip_labels(root: Path) -> Path:
    """Delete every list of objects."""
    for file in root.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        del content["vehicles"]
        file.write_text(yaml.safe_dump(content))
    return root


def check_unlabelled(dataset: Any, train: bool) -> None:
    """A batch with inputs and without any ground truth, which training nevertheless takes."""
    collate = dataset.collate_batch_train if train else dataset.collate_batch_test
    ego = collate([dataset[0]])["ego"]
    told = [key for key in (*ego, *ego["label_dict"]) if key.startswith(TOLD)]
    assert not told and ego["object_ids"] == [] and has_objects(ego)
    assert len(ego["processed_lidar" if "processed_lidar" in ego else "inputs_m1"]["voxel_coords"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("train", [True, False])
def test_a_tree_without_labels(folder: Write, hypes: Hypes, method: str, train: bool) -> None:
    root = strip_labels(folder())
    check_unlabelled(build_dataset(hypes(root, method, labels=False), train), train)
    with pytest.raises(DataError, match="missing key 'vehicles'"):
        build_dataset(hypes(root, method), train)


@pytest.mark.parametrize(("name", "write"), [("v2xreal", write_v2xreal), ("v2v4real", write_v2v4real)])
def test_other_trees_without_labels(hypes: Hypes, tmp_path: Path, name: str, write: Any) -> None:
    content = hypes(strip_labels(write(tmp_path / "data")), "early", labels=False)
    content["fusion"]["dataset"] = name
    check_unlabelled(build_dataset(content, train=True), train=True)


def test_a_training_may_start_without_labels(folder: Write, hypes: Hypes) -> None:
    content = hypes(strip_labels(folder()), "early", labels=False)
    assert check_start(content, build_dataset(content, train=True)) == []


def test_the_labelled_and_the_unlabelled_tree_have_different_caches(folder: Write, hypes: Hypes) -> None:
    root = folder()
    labelled, without = (build_dataset(hypes(root, labels=labels), train=False) for labels in (True, False))
    assert len(labelled.frame(0).ego.objects.ids) == 3 and len(without.frame(0).ego.objects.ids) == 0
    assert len(build_dataset(hypes(root), train=False).frame(0).ego.objects.ids) == 3


@pytest.mark.skipif(not DAIR.is_dir(), reason="tiny data are not here")
@pytest.mark.parametrize("method", ["early", "late", "intermediate"])
def test_dair_without_label_files(hypes: Hypes, tmp_path: Path, method: str) -> None:
    root = tmp_path / "dair"
    shutil.copytree(DAIR, root, ignore=shutil.ignore_patterns("label*", "image"))
    content = hypes(root / "train.json", method, labels=False, data_dir=str(root), label_type="lidar")
    content["fusion"]["dataset"] = "dairv2x"
    content["preprocess"]["cav_lidar_range"] = [-60, -60, -5, 60, 60, 3]
    with opened_files() as files:
        check_unlabelled(build_dataset(content, train=True), train=True)
    assert not [name for name in files if name.startswith(str(root)) and "label" in name.removeprefix(str(root))]


@pytest.mark.skipif(not V2XSIM.is_dir(), reason="tiny data are not here")
def test_v2xsim_without_labels(hypes: Hypes, tmp_path: Path) -> None:
    infos = pickle.loads(next(V2XSIM.glob("*train.pkl")).read_bytes())
    for info in infos:
        for number in range(1, info["agent_num"] + 1):
            del info[f"labels_{number}"]
    file = tmp_path / "v2xsim_infos_train.pkl"
    file.write_bytes(pickle.dumps(infos))
    prefixes = {"v2xsim_tiny": str(SHARED / "data/v2xsim_tiny")}
    content = hypes(file, "early", labels=False, path_prefixes=prefixes)
    content["fusion"]["dataset"] = "v2xsim"
    content["preprocess"]["cav_lidar_range"] = [-60, -60, -5, 60, 60, 3]
    check_unlabelled(build_dataset(content, train=True), train=True)


def test_a_second_grid_of_the_same_points(folder: Write, hypes: Hypes) -> None:
    content = hypes(folder(), "early", flavor="coopre")  # on OPV2V, which CooPre's own code cannot read
    coarse = {"voxel_size": [1.6, 1.6, 4], "max_points_per_voxel": 64}
    content["preprocess"] = content["preprocess"] | {"bev_args": coarse}
    dataset = build_dataset(content, train=True)
    voxels = dataset.collate_batch_train([dataset[0], dataset[1]])["ego"]["processed_lidar"]
    assert voxels["bev_voxel_features"].shape[1:] == (64, 4) and voxels["voxel_features"].shape[1:] == (32, 4)
    assert voxels["bev_voxel_coords"][:, 0].unique().tolist() == [0, 1]
    assert voxels["bev_voxel_num_points"].sum() == voxels["voxel_num_points"].sum()
    fine, wide = (voxels[f"{prefix}voxel_coords"][:, 2:] for prefix in ("", "bev_"))
    assert {tuple(cell) for cell in (fine // 4).tolist()} == {tuple(cell) for cell in wide.tolist()}

    content["preprocess"] = content["preprocess"] | {"bev_args": {**coarse, "max_voxel": 3}}
    dataset = build_dataset(content, train=True)
    voxels = dataset.collate_batch_train([dataset[0]])["ego"]["processed_lidar"]
    assert len(voxels["bev_voxel_coords"]) == 3 < len(voxels["voxel_coords"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="golden cases are not here")
@pytest.mark.parametrize("name", ["tiny", "tiny_b2", "cell_targets"])
def test_both_grids_are_those_of_the_published_voxelizer(name: str) -> None:
    place = SHARED / "golden/coopre" / f"second_coopre_{name}"
    case, arrays = yaml.safe_load((place / "case.yaml").read_text()), np.load(place / "case.npz")
    section = case["preprocess"]
    for prefix, key in (("", "args"), ("bev_", "bev_args")):
        if f"in/{prefix}voxel_coords" not in arrays:
            continue
        voxelizer = REGISTRY.build(
            "preprocessor", "SpVoxelPreprocessor", {**section["args"], **section[key]},
            cav_lidar_range=section.get("cav_lidar_range", case.get("lidar_range")), train=True,
        )  # fmt: skip
        frames = sorted(frame for frame in arrays.files if frame.startswith("in/points/"))
        voxels = voxelizer.collate([voxelizer.preprocess(arrays[frame]) for frame in frames])
        for part in ("coords", "num_points", "features"):
            np.testing.assert_array_equal(voxels[f"voxel_{part}"], arrays[f"in/{prefix}voxel_{part}"])


def test_thinned_clouds() -> None:
    points, boxes = cloud(101), np.zeros((2, 7))
    thinned, same = build_augmentation([{"NAME": "random_lidar_downsampling", "DOWNSAMPLE_RATIO": [0.5]}])(
        points, boxes, Draws.keyed(0)
    )
    assert len(thinned) == 50 == len(np.unique(thinned, axis=0)) and same is boxes
    assert {tuple(row) for row in thinned.tolist()} <= {tuple(row) for row in points.tolist()}
    with pytest.raises(ConfigError, match="DOWNSAMPLE_RATIO .* above 0 and at most 1"):
        build_augmentation([{"NAME": "random_lidar_downsampling", "DOWNSAMPLE_RATIO": [0]}])


@pytest.mark.parametrize(
    ("flavor", "given", "any_agent"),
    [("coopre", None, False), ("coopre", True, True), ("v2xreal", None, True), ("v2xreal", False, False)],
)
def test_who_leads_v2xreal_in_training(hypes: Hypes, tmp_path: Path, flavor: str, given: Any, any_agent: bool) -> None:
    content = hypes(write_v2xreal(tmp_path / "data"), "early", flavor=flavor, dataset_mode="v2v")
    content["fusion"]["dataset"] = "v2xreal"
    if given is not None:
        content["train_params"]["random_ego"] = given
    dataset = build_dataset(content, train=True)
    egos = set()
    for epoch in range(30):
        dataset.reinitialize(epoch)
        egos.add(dataset.frame(0).ego.id)
    assert egos == ({"0", "1", "-1"} if any_agent else {"0"})


def moving(root: Path) -> None:
    """The vehicles drive on between the two stamps, and say how fast."""
    for file in root.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        content["ego_speed"] = 15.0 if file.stem == "000068" else 30.0
        if file.stem == "000070":
            content["lidar_pose"][0] += 2.0
        file.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("current", [True, False])
def test_batches_of_the_opencood_family_tell_motion(folder: Write, hypes: Hypes, current: bool) -> None:
    root = folder(agents=AGENTS | {"-1": [103.0, 47.0, 4.0, 0.0, 0.0, 0.0]})
    moving(root)
    late = {"async": True, "async_mode": "sim", "async_overhead": 100}
    content = hypes(root, flavor="opencood", wild_setting=late)
    content["fusion"]["args"] = {"cur_ego_pose_flag": current}
    dataset = build_dataset(content, train=False)
    frame = dataset.frame(1)
    batch = dataset.collate_batch_test([dataset[1]])["ego"]
    assert batch["prior_encoding"].shape == (1, 5, 3)
    assert batch["prior_encoding"][0].tolist() == [[1, 0, 0], [0.5, 1, 0], [0.5, 1, 1], [0, 0, 0], [0, 0, 0]]
    correction = batch["spatial_correction_matrix"][0].numpy()
    before = build_dataset(hypes(root, flavor="opencood"), train=False).frame(0).ego.lidar_pose
    moved = np.eye(4) if current else x1_to_x2(before, frame.ego.lidar_pose)
    np.testing.assert_allclose(correction[[0, 1, 2, 4]], [np.eye(4), moved, moved, np.eye(4)], atol=1e-12)
    assert np.array_equal(batch["pairwise_t_matrix"], np.tile(np.eye(4), (1, 5, 5, 1, 1))), "points are projected"


def test_other_repositories_do_not_tell_motion_and_keep_points_at_home(folder: Write, hypes: Hypes) -> None:
    content = hypes(folder())
    content["fusion"]["args"] = {}
    batch = build_dataset(content, train=False)[0]["ego"]
    assert "prior_encoding" not in batch and not np.allclose(batch["pairwise_t_matrix"][0, 1], np.eye(4))


def test_the_range_of_points_is_that_of_a_crop(folder: Write, hypes: Hypes) -> None:
    crop = [-6, -6, -3, 6, 6, 1]
    dataset = build_dataset(hypes(folder(), "intermediate", crop_range=crop), train=False)
    batch = dataset.collate_batch_test([dataset[0]])["ego"]
    assert batch["processed_lidar"]["voxel_features"][..., :2].abs().max() < 6
    assert json.dumps(RANGE) and batch["anchor_box"].shape == (32, 32, 2, 7)
