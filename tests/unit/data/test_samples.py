"""Samples and batches: what they hold, what they depend on, and what they read."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from opencood.data.build import build_dataset
from opencood.errors import ConfigError, DataError
from opencood.registry import REGISTRY
from tests.golden.arrays import flatten
from tests.unit.data.conftest import AGENTS, RANGE

Write = Callable[..., Path]
Hypes = Callable[..., Any]
METHODS = [
    "intermediate",
    "intermediateheter",
    "intermediateheterinfer",
    "intermediate2stage",
    "early",
    "late",
    "lateheter",
    "intermediatepnpda",
    "intermediateheterv2xreal",
]
AUGMENT = [{"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]}]
NOISE = {"add_noise": True, "args": {"pos_std": 0.2, "rot_std": 0.2, "pos_mean": 0, "rot_mean": 0}}

_opened: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


sys.addaudithook(_watch)


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Collects the files that are opened inside."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def same(first: Any, second: Any) -> bool:
    flat, other = flatten(first), flatten(second)
    assert flat.keys() == other.keys()
    return all(np.array_equal(np.asarray(flat[key]), np.asarray(other[key])) for key in flat)


def test_published_names_are_registered() -> None:
    names = {*METHODS, "EarlyFusionDataset", "LateFusionDataset", "IntermediateFusionDataset"}
    assert names <= set(REGISTRY.names("sample"))


def test_intermediate_batch(folder: Write, hypes: Hypes) -> None:
    dataset = build_dataset(
        hypes(folder(), model={"core_method": "none", "args": {"supervise_single": True}}), train=True
    )
    batch = dataset.collate_batch_train([dataset[0], dataset[1]])["ego"]
    assert dataset.supervise_single
    shapes = {
        name: (tuple(value.shape), value.dtype) for name, value in flatten(batch).items() if torch.is_tensor(value)
    }
    double, single = torch.float64, torch.float32
    assert shapes["record_len"] == ((2,), torch.int64)
    assert batch["record_len"].tolist() == [2, 2]
    assert shapes["object_bbx_center"] == ((2, 20, 7), double)
    assert shapes["label_dict/targets"] == ((2, 32, 32, 14), double)
    assert shapes["label_dict_single/pos_equal_one"] == ((4, 32, 32, 2), double)
    assert shapes["label_dict_single/object_bbx_mask_single"] == shapes["object_bbx_mask_single"] == ((4, 20), double)
    assert shapes["pairwise_t_matrix"] == shapes["label_dict/pairwise_t_matrix"] == ((2, 5, 5, 4, 4), double)
    assert shapes["lidar_pose"] == shapes["lidar_pose_clean"] == ((4, 6), double)
    assert shapes["anchor_box"] == ((32, 32, 2, 7), double)
    assert shapes["processed_lidar/voxel_features"][1] == single
    assert shapes["processed_lidar/voxel_coords"][1] == torch.int32
    assert batch["processed_lidar"]["voxel_coords"][:, 0].unique().tolist() == [0, 1, 2, 3]
    assert "transformation_matrix" not in batch


def test_merged_ground_truth_holds_every_object_once_in_the_ego_frame(folder: Write, hypes: Hypes) -> None:
    dataset = build_dataset(hypes(folder()), train=False)
    batch = dataset.collate_batch_test([dataset[0]])["ego"]
    assert sorted(batch["object_ids"]) == [7, 8, 641, 1045], "the ego itself is seen by the other agent"
    assert batch["object_bbx_mask"].sum() == 4
    ego_row = batch["object_bbx_center"][0, batch["object_ids"].index(1045)]
    np.testing.assert_allclose(ego_row[[0, 1, 6]], 0, atol=0.02)
    assert batch["cav_id_list"] == ["1045", "641"] and batch["sample_idx"] == 0


def test_late_test_has_one_entry_per_agent(folder: Write, hypes: Hypes) -> None:
    dataset = build_dataset(hypes(folder(), "lateheter"), train=False, visualize=True)
    batch = dataset.collate_batch_test([dataset[0]])
    assert list(batch) == ["ego", "641"]
    torch.testing.assert_close(batch["ego"]["transformation_matrix"], torch.eye(4))
    assert not torch.allclose(batch["641"]["transformation_matrix"], torch.eye(4))
    assert batch["641"]["modality_name"] == "m1"
    assert "origin_lidar" in batch["ego"] and "origin_lidar" not in batch["641"]
    assert dataset.post_processor.generate_gt_bbx(batch).shape == (4, 8, 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("train", [True, False])
def test_a_sample_depends_on_seed_epoch_and_index_alone(folder: Write, hypes: Hypes, method: str, train: bool) -> None:
    content = hypes(folder(), method, data_augment=AUGMENT, noise_setting=NOISE, parity="fixed")
    dataset, other = (build_dataset(content, train, visualize=not train) for _ in range(2))
    collate = "collate_batch_train" if train else "collate_batch_test"
    direct = [getattr(dataset, collate)([dataset[index]]) for index in (1, 0)]
    loader = DataLoader(other, batch_size=1, num_workers=2, collate_fn=getattr(other, collate))
    for batch, wanted in zip(loader, reversed(direct), strict=True):
        assert same(batch, wanted)
    if train:
        other.reinitialize()
        changed = [getattr(other, collate)([other[index]]) for index in (1, 0)]
        poses = [flatten(batch)["ego/lidar_pose"] for batch in changed + direct]
        assert len({pose.numpy().tobytes() for pose in poses}) == 4, "a new epoch draws anew"
        other.reinitialize(0)
        assert same(getattr(other, collate)([other[1]]), direct[0])


def test_the_seed_of_the_configuration_is_used(folder: Write, hypes: Hypes) -> None:
    root = folder()
    poses = [
        build_dataset(hypes(root, noise_setting=NOISE, train_params={"max_cav": 5, "seed": seed}), train=False)
        .frame(0).ego.lidar_pose
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert np.array_equal(poses[0], poses[1]) and not np.array_equal(poses[0], poses[2])


@pytest.mark.parametrize("method", METHODS)
def test_data_sets_can_be_sent_to_workers(folder: Write, hypes: Hypes, method: str) -> None:
    dataset = build_dataset(hypes(folder(), method), train=False)
    assert same(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


def test_only_the_files_that_are_needed_are_opened(folder: Write, hypes: Hypes) -> None:
    far = AGENTS | {"650": [200.0, 50.0, 1.9, 0, 0, 0], "700": [103.0, 40.0, 1.9, 0, 0, 0]}
    root = folder(agents=far)
    content = hypes(root, "intermediateheter")
    content["heter"]["mapping_dict"] = {"m1": "m1", "m9": "m9"}
    content["modality_assignment"] = {"2021_01_01_10_00_00": {"1045": "m1", "641": "m1", "650": "m1", "700": "m9"}}
    dataset = build_dataset(content, train=False)
    assert len(dataset.frame(0).agents) == 4
    with opened_files() as files:
        dataset[0]
    names = sorted(str(Path(name).relative_to(root)) for name in files if name.startswith(str(root)))
    assert names == [f"2021_01_01_10_00_00/{agent}/000068.pcd" for agent in ("1045", "641")]


def test_communication_range_is_measured_with_the_believed_poses(folder: Write, hypes: Hypes) -> None:
    root = folder()
    near = build_dataset(hypes(root, comm_range=7), train=False)
    away = build_dataset(hypes(root, comm_range=6), train=False)
    pushed = NOISE | {"args": {"pos_std": 50.0, "rot_std": 0, "pos_mean": 0, "rot_mean": 0}}
    noisy = build_dataset(hypes(root, comm_range=7, noise_setting=pushed), train=False)
    agents = [dataset.collate_batch_test([dataset[0]])["ego"]["record_len"].item() for dataset in (near, away, noisy)]
    assert agents == [2, 1, 1]


def test_two_stage_and_early_batches(folder: Write, hypes: Hypes) -> None:
    root = folder()
    staged = build_dataset(hypes(root, "intermediate2stage"), train=False)
    batch = staged.collate_batch_test([staged[0]])["ego"]
    assert batch["label_dict"]["stage1"]["targets"].shape[0] == 2
    assert batch["label_dict"]["stage2"]["record_len"].tolist() == [2]
    assert batch["origin_lidar_for_vsa"].shape == (600, 5)
    early = build_dataset(hypes(root, "early"), train=False, visualize=True)
    batch = early.collate_batch_test([early[0]])["ego"]
    assert batch["origin_lidar"].shape == (1, 600, 4)
    assert batch["processed_lidar"]["voxel_coords"][:, 0].unique().tolist() == [0]
    with pytest.raises(ConfigError, match="early fusion has LiDAR labels only"):
        build_dataset(hypes(root, "early", label_type="camera"), train=False)


@pytest.mark.parametrize(("parity", "ego"), [("fixed", "641"), ("published", "1045")])
def test_an_ego_without_a_known_modality(folder: Write, hypes: Hypes, parity: str, ego: str) -> None:
    content = hypes(folder(), "intermediateheter", parity=parity)
    content["heter"]["ego_modality"] = "m9"
    content["heter"]["mapping_dict"] = {"m1": "m1", "m9": "m9"}
    content["modality_assignment"] = {"2021_01_01_10_00_00": {"1045": "m9", "641": "m1"}}
    dataset = build_dataset(content, train=False)
    batch = dataset.collate_batch_test([dataset[0]])["ego"]
    assert batch["cav_id_list"] == ["641"]
    centre = batch["object_bbx_center"][0, batch["object_ids"].index(1045), :2].numpy()
    assert (np.abs(centre).max() < 0.02) == (ego == "1045"), "published: boxes stay in the frame of the dropped ego"


def test_a_frame_without_any_known_modality_is_left_out(folder: Write, hypes: Hypes) -> None:
    content = hypes(folder(), "intermediateheter")
    content["heter"]["mapping_dict"] = {"m1": "m9"}
    content["modality_assignment"] = {"2021_01_01_10_00_00": {"1045": "m1", "641": "m1"}}
    dataset = build_dataset(content, train=False)
    assert dataset[0] is None
    assert dataset.collate_batch_train([None, None]) is None and dataset.collate_batch_test([None]) is None
    with pytest.raises(ValueError, match="batch size 1"):
        dataset.collate_batch_test([None, None])


BROKEN: dict[str, Any] = {
    "truncated": (lambda content: content[:-100], "truncated point cloud"),
    "no points": (lambda content: content.replace(b"300", b"000"), "no valid point"),
    "NaN": (lambda content: content[:-16] + np.full(4, np.nan, "<f4").tobytes(), "NaN or infinite"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_cloud_stops_or_is_skipped_and_counted(
    folder: Write, hypes: Hypes, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder()
    change, message = BROKEN[damage]
    file = root / "2021_01_01_10_00_00" / "641" / "000070.pcd"
    file.write_bytes(change(file.read_bytes()))
    strict = build_dataset(hypes(root), train=False)
    assert strict[0] is not None
    with pytest.raises(DataError, match=rf"000070\.pcd: .*{message}.*on_bad_frame: skip"):
        strict[1]
    skipping = build_dataset(hypes(root, on_bad_frame="skip"), train=False)
    samples = [skipping[index] for index in (0, 1, 1)]
    assert samples[1] is samples[2] is None
    assert skipping.collate_batch_train(samples)["ego"]["record_len"].tolist() == [2]
    assert skipping.frames_left_out == [1]
    assert caplog.text.count("Frame 1 is left out") == 1 and re.search(message, caplog.text)
    with pytest.raises(ConfigError, match="Did you mean 'skip'"):
        build_dataset(hypes(root) | {"on_bad_frame": "skipp"}, train=False)


@pytest.mark.parametrize("method", ["intermediate", "intermediateheter", "early", "late"])
def test_no_point_in_range_is_an_error(folder: Write, hypes: Hypes, method: str) -> None:
    content = hypes(folder(), method)
    high = [*RANGE[:2], 5, *RANGE[3:5], 9]
    content["preprocess"]["cav_lidar_range"] = high
    if "heter" in content:
        content["heter"]["modality_setting"]["m1"]["preprocess"]["cav_lidar_range"] = high
    with pytest.raises(DataError, match="no point of any agent lies in the range"):
        build_dataset(content, train=False)[0]


def test_settings_that_are_missing_or_wrong_are_named(folder: Write, hypes: Hypes) -> None:
    root = folder()
    content = hypes(root)
    for change, message in (
        ({"fusion": {}}, "fusion.core_method: missing"),
        ({"fusion": {"core_method": "intermediat"}}, "Did you mean 'intermediate'"),
        ({"fusion": {"core_method": "intermediate", "dataset": "opv2x"}}, "Did you mean 'opv2v'"),
        ({"root_dir": None}, "root_dir: missing"),
        ({"label_type": "radar"}, "label_type"),
        ({"postprocess": None}, "postprocess: a section"),
        (
            {"preprocess": content["preprocess"] | {"cav_lidar_range": [1, 2, 3]}},
            "preprocess.cav_lidar_range: expected",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            build_dataset(dict(content) | change, train=True)
    for method, extra in (
        ("early", {}),
        ("intermediate2stage", {}),
        ("intermediate", {"kd_flag": {"teacher_model": "x"}}),
    ):
        camera = hypes(root, method, input_source=["camera"], **extra)
        camera["fusion"]["args"]["data_aug_conf"] = {
            "resize_lim": [1, 1], "final_dim": [8, 8], "rot_lim": [0, 0], "H": 8, "W": 8, "bot_pct_lim": [0, 0],
            "cams": [],
        }  # fmt: skip
        with pytest.raises(ConfigError, match="input_source: .* needs points"):
            build_dataset(camera, train=True)
    for change, message in (
        ({"noise_setting": NOISE | {"add_async_noise": True}}, "async_args: missing although"),
        ({"box_align": {"val_result": "x"}}, "box_align.train_result: missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_dataset(dict(content) | change, train=True)
    few = dict(content) | {"postprocess": content["postprocess"] | {"max_num": 3}}
    with pytest.raises(ConfigError, match=r"max_num: 3 rows, but a frame has 4 objects"):
        build_dataset(few, train=True)[0]
