"""Several data sets as one: each with its own format, range, poses and keys."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch.utils.data import DataLoader

from opencood.config.loader import load_mapping
from opencood.data.build import build_dataset
from opencood.data.combined import CombinedDataset
from opencood.errors import ConfigError, DataError
from opencood.geometry.poses import x_to_world
from tests.golden.arrays import flatten
from tests.unit.data.conftest import cloud, metadata_of, pcd_bytes

Write = Callable[..., Path]
Hypes = Callable[..., Any]
POSES = {"0": [10.0, 5.0, 2.0, 0.0, 35.0, 0.0], "1": [14.0, 7.0, 2.0, 0.0, -140.0, 0.0]}


def write_v2v4real(root: Path) -> Path:
    """One scenario of one stamp: matrices as poses, boxes in the LiDAR frame."""
    box = {"location": [6.0, -2.0, -1.0], "center": [0.0, 0.0, 0.1], "angle": [0, -15, 0], "extent": [2.1, 0.9, 0.8]}
    for agent, pose in POSES.items():
        place = root / "testoutput_1" / agent
        place.mkdir(parents=True)
        vehicles = {3: box | {"obj_type": "Car", "ass_id": 3}}
        (place / "000000.yaml").write_text(
            yaml.safe_dump({"lidar_pose": x_to_world(pose).tolist(), "vehicles": vehicles})
        )
        (place / "000000.pcd").write_bytes(pcd_bytes(cloud(200, seed=int(agent))))
    return root


def write_v2xreal(root: Path) -> Path:
    """Two stamps of two vehicles and a roadside unit."""
    for agent, pose in (POSES | {"-1": [12.0, 6.0, 4.0, 0.0, 0.0, 0.0]}).items():
        place = root / "2023-03-17" / agent
        place.mkdir(parents=True)
        content = metadata_of(agent, pose, {7: (16.0, 5.0, 0.8, 20.0), 8: (4.0, 3.0, 0.8, 0.0)})
        for entry in content["vehicles"].values():
            entry["obj_type"] = "Truck"
        for stamp in ("000000", "000001"):
            (place / f"{stamp}.yaml").write_text(yaml.safe_dump(content))
            cloud(200, seed=abs(int(agent))).tofile(place / f"{stamp}.bin")
    return root


@pytest.fixture
def entries(tmp_path: Path) -> list[dict[str, Any]]:
    """What CooPre combines: V2X-Real among vehicles, and V2V4Real."""
    return [
        {"path": str(write_v2xreal(tmp_path / "v2xreal")), "dataset": "v2xreal", "mode": "v2v"},
        {"path": str(write_v2v4real(tmp_path / "v2v4real")), "dataset": "v2v4real"},
    ]


@pytest.fixture
def several(entries: list[dict[str, Any]], hypes: Hypes) -> Hypes:
    """``several(method, first={}, second={})`` -> both data sets, with further keys of their entries."""

    def make(method: str = "early", first: Any = None, second: Any = None, **changes: Any) -> Any:
        listed = [entries[0] | (first or {}), entries[1] | (second or {})]
        content = hypes(Path("."), method, **changes)
        return load_mapping(dict(content) | {"root_dir": listed, "validate_dir": listed})

    return make


def test_frames_follow_each_other_and_each_is_read_in_its_own_way(several: Hypes) -> None:
    dataset = build_dataset(several(), train=False)
    assert isinstance(dataset, CombinedDataset) and len(dataset) == 3
    frames = [dataset.frame(index) for index in range(3)]
    assert [frame.scenario for frame in frames] == ["2023-03-17"] * 2 + ["testoutput_1"]
    assert [agent.id for agent in frames[0].agents] == ["0", "1"], "mode v2v has no roadside unit"
    np.testing.assert_allclose(frames[2].agents[1].lidar_pose, POSES["1"], atol=1e-9)
    assert [dataset[index]["ego"]["sample_idx"] for index in range(3)] == [0, 1, 2]
    assert [len(dataset[index]["ego"]["object_ids"]) for index in range(3)] == [2, 2, 1]
    assert dataset[-1]["ego"]["sample_idx"] == 2
    for outside in (3, -4):
        with pytest.raises(IndexError):
            dataset[outside]


@pytest.mark.parametrize("method", ["early", "intermediate", "late"])
@pytest.mark.parametrize("train", [True, False])
def test_a_part_gives_what_it_gives_alone(several: Hypes, entries: Any, method: str, train: bool) -> None:
    content = several(method)
    both = build_dataset(content, train)
    alone = build_dataset(content | {"root_dir": entries[:1], "validate_dir": entries[:1]}, train)
    for index in range(2):
        wanted, got = flatten(alone[index]), flatten(both[index])
        assert wanted.keys() == got.keys()
        assert all(np.array_equal(np.asarray(wanted[key]), np.asarray(got[key])) for key in wanted)


def test_training_batches_mix_data_sets_in_any_worker(several: Hypes) -> None:
    dataset = build_dataset(several("intermediate"), train=True)
    dataset.reinitialize(3)
    wanted = dataset.collate_batch_train([dataset[index] for index in range(3)])
    again = build_dataset(several("intermediate"), train=True)
    again.reinitialize(3)
    loader = DataLoader(pickle.loads(pickle.dumps(again)), 3, num_workers=2, collate_fn=again.collate_batch_train)
    (batch,) = list(loader)
    assert batch["ego"]["record_len"].tolist() == wanted["ego"]["record_len"].tolist()
    for key in ("object_bbx_center", "lidar_pose"):
        assert np.array_equal(batch["ego"][key], wanted["ego"][key])
    dataset.reinitialize()
    assert dataset.epoch == 4 and all(part.epoch == 4 for part in dataset.parts)


def test_every_data_set_has_its_own_range(several: Hypes) -> None:
    near = [-8, -8, -3, 8, 8, 1]
    for method in ("early", "intermediate", "late"):
        batches = []
        for second in ({}, {"range": near}):
            dataset = build_dataset(several(method, second=second), train=False)
            batches.append([dataset.collate_batch_test([dataset[index]])["ego"] for index in (0, 2)])
        (first, wide), (same, narrow) = batches
        assert np.array_equal(first["processed_lidar"]["voxel_features"], same["processed_lidar"]["voxel_features"])
        reach = [float(one["processed_lidar"]["voxel_features"][:, 0, :3].abs().max()) for one in (narrow, wide)]
        assert reach[0] < 8 < reach[1]
        assert wide["anchor_box"].shape == narrow["anchor_box"].shape
    far = build_dataset(several(second={"range": [-13, -13, -3, 13, 13, -0.5]}), train=False)
    assert far[2]["ego"]["object_ids"] == [], "boxes that reach out of it are left out too"


def test_further_keys_hold_for_one_data_set_alone(several: Hypes) -> None:
    content = several(
        "intermediate", first={"set": {"comm_range": 1, "preprocess": {"args": {"max_points_per_voxel": 5}}}}
    )
    dataset = build_dataset(content, train=False)
    agents = [dataset[index]["ego"]["agents"] for index in (0, 2)]
    assert agents == [1, 2]
    shapes = [dataset[index]["ego"]["parts"][0]["processed_lidar"]["voxel_features"].shape[1] for index in (0, 2)]
    assert shapes == [5, 32]
    with pytest.raises(DataError, match="do not fit into one batch"):
        dataset.collate_batch_train([dataset[0], dataset[2]])


def test_detections_are_judged_by_the_conventions_of_their_data_set(several: Hypes) -> None:
    dataset = build_dataset(several("late"), train=False)
    for index, objects in ((0, 2), (2, 2)):
        batch = dataset.collate_batch_test([dataset[index]])
        part, _ = dataset.locate(index)
        truth = part.post_processor.generate_gt_bbx(batch)
        assert len(truth) <= objects and part.reader.conventions.common_ids


def test_broken_frames_are_counted_over_all(several: Hypes, entries: Any) -> None:
    (Path(entries[1]["path"]) / "testoutput_1/0/000000.pcd").write_bytes(b"nothing")
    dataset = build_dataset(several(on_bad_frame="skip"), train=False)
    with pytest.raises(DataError, match="left out every frame"):
        dataset[2]
    assert dataset.frames_left_out == [2]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "root_dir: the list of data sets is empty|missing"),
        ([{"dataset": "opv2v"}], r"root_dir\[0\]: expected a map with a path"),
        ([{"path": "x", "modus": "vc"}], r"root_dir\[0\]: unknown key 'modus'.* Did you mean 'mode'"),
        ([{"path": "x", "dataset": "opv2x"}], "Did you mean 'opv2v'"),
        ([{"path": "x", "range": [1, 2, 3]}], "crop_range: expected"),
    ],
)
def test_wrong_entries_are_named(hypes: Hypes, listed: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_dataset(dict(hypes(Path("."))) | {"root_dir": listed}, train=True)


def test_a_missing_folder_of_the_list_is_named(hypes: Hypes, several: Hypes) -> None:
    with pytest.raises(DataError, match=r"validate_dir\[1\]: no folder 'nowhere'"):
        build_dataset(several(second={"path": "nowhere"}), train=False)
    with pytest.raises(ConfigError, match="root_dir: expected text or a list of maps"):
        load_mapping({"root_dir": 3})
