"""Voxels made in advance: which samples use them, what differs, and when clouds are read instead."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from opencood.config.loader import load_mapping
from opencood.data import files
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.packed import prepared as preparing
from opencood.data.packed.layout import JOURNAL, MANIFEST, segment_name
from opencood.data.packed.store import Store
from opencood.errors import ConfigError, DataError
from opencood.experiments import prepare as experiment
from opencood.experiments.pack import pack, verify
from opencood.experiments.prepare import describe, prepare
from tests.unit.data.conftest import assert_same

Hypes = Callable[..., Any]
Write = Callable[..., Path]
AUGMENT = [{"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x"]}]
SHARED = Path(__file__).resolve().parents[4] / "shared"
INPUTS = ("voxel_features", "voxel_coords", "voxel_num_points")


@pytest.fixture
def packed(folder: Write, tmp_path: Path) -> Path:
    """A packed data set, not yet prepared; its source is at ``tmp_path / data``."""
    pack(folder(), tmp_path / "packed")
    return tmp_path / "packed"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clouds that are read."""
    seen: list[str] = []
    load = files.load

    def noted(path: Any) -> Any:
        if str(path).endswith((".pcd", ".bin")):
            seen.append(str(path))
        return load(path)

    monkeypatch.setattr(files, "load", noted)
    return seen


def crowded(hypes: Any, most_points: int = 2, **changes: Any) -> Any:
    """The configuration with large voxels that hold few points."""
    content = copy.deepcopy(dict(hypes)) | changes
    for section in (content, *content.get("heter", {}).get("modality_setting", {}).values()):
        section["preprocess"]["args"] |= {"voxel_size": [1.6, 1.6, 4], "max_points_per_voxel": most_points}
    return load_mapping(content)


def batches(hypes: Any, train: bool = False) -> Iterator[Any]:
    dataset = build_dataset(hypes, train)
    collate = dataset.collate_batch_train if train else dataset.collate_batch_test
    for index in range(len(dataset)):
        yield collate([dataset[index]])


def assert_same_inputs(got: Any, wanted: Any, most_points: int) -> None:
    """The same voxels of every agent with as many points, and the same points where they are not overfull."""
    got, wanted = ({key: batch[key].numpy() for key in INPUTS} for batch in (got, wanted))
    orders = [np.lexsort(batch["voxel_coords"].T) for batch in (got, wanted)]
    for key in INPUTS[1:]:
        np.testing.assert_array_equal(got[key][orders[0]], wanted[key][orders[1]], key)
    for mine, other in zip(got["voxel_features"][orders[0]], wanted["voxel_features"][orders[1]], strict=True):
        if not mine[-1].any():
            np.testing.assert_array_equal(*(features[np.lexsort(features.T)] for features in (mine, other)))
    assert got["voxel_features"].shape[1] == most_points


def assert_same_but_inputs(got: Any, wanted: Any, keys: tuple[str, ...]) -> None:
    for agent in wanted:
        rest = [{key: value for key, value in batch[agent].items() if key not in keys} for batch in (got, wanted)]
        assert_same(*rest)


# The same inputs up to what overfull voxels keep


@pytest.mark.parametrize("method", ["intermediate", "late", "intermediateheter", "lateheter"])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("most_points", [2, 60])
def test_samples_are_those_of_the_folder(
    method: str, train: bool, most_points: int, packed: Path, hypes: Hypes, tmp_path: Path, reads: list[str]
) -> None:
    def make(root: Path) -> Any:
        return crowded(hypes(root, method), most_points)

    report = prepare(packed, make(tmp_path / "data"))
    assert report.clouds == 4 and not report.problems and not report.refused
    wanted = list(batches(make(tmp_path / "data"), train))
    reads.clear()
    got = list(batches(make(packed), train))
    assert not reads and len(got) == len(wanted) > 0
    key = "inputs_m1" if "heter" in method else "processed_lidar"
    for mine, other in zip(got, wanted, strict=True):
        assert_same_but_inputs(mine, other, (key,))
        for agent in other:
            assert_same_inputs(mine[agent][key], other[agent][key], most_points)
    assert_same(list(batches(make(packed), train)), got)


def test_epochs_keep_other_points_of_overfull_voxels(packed: Path, hypes: Hypes) -> None:
    make = crowded(hypes(packed))
    prepare(packed, make)
    dataset = build_dataset(make, train=True)
    kept = []
    for epoch in (0, 1, 0):
        dataset.reinitialize(epoch)
        batch = dataset.collate_batch_train([dataset[0]])["ego"]
        kept.append(batch["processed_lidar"]["voxel_features"])
    assert torch.equal(kept[0], kept[2])
    assert not torch.equal(kept[0].sort(0)[0], kept[1].sort(0)[0])


def test_late_agents(packed: Path, hypes: Hypes, tmp_path: Path, reads: list[str]) -> None:
    late = {"perturb": {"delay": {"milliseconds": 100}}}
    prepare(packed, crowded(hypes(packed, **late)))
    wanted = list(batches(crowded(hypes(tmp_path / "data", **late))))
    reads.clear()
    got = list(batches(crowded(hypes(packed, **late))))
    assert not reads
    for mine, other in zip(got, wanted, strict=True):
        assert_same_inputs(mine["ego"]["processed_lidar"], other["ego"]["processed_lidar"], 2)


def test_cameras_and_a_second_grid_beside(
    stamp: Callable[..., Any], pictured: Path, tmp_path: Path, reads: list[str]
) -> None:
    """STAMP: every agent also has the protocol's input, a camera agent beside its pictures."""
    pack(pictured, tmp_path / "packed")
    make = stamp()
    report = prepare(tmp_path / "packed", make)
    assert report.clouds == 4 * len(report.stores) and not report.problems
    wanted = list(batches(make, train=True))
    reads.clear()
    there = load_mapping({**make, "root_dir": str(tmp_path / "packed"), "validate_dir": str(tmp_path / "packed")})
    got = list(batches(there, train=True))
    assert not reads and any("imgs" in batch["ego"].get("inputs_m2", {}) for batch in got)
    for mine, other in zip(got, wanted, strict=True):
        for key in ("inputs_m0", "inputs_m1"):
            if key in other["ego"]:
                assert_same_inputs(mine["ego"][key], other["ego"][key], 32)


# Clouds are read, to the same bit as in the folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_prepared": False}, ""),
        ({"perturb": {"fog": {"visibility": 50}}}, r"perturb\.fog"),
        ({"fusion": {"core_method": "intermediate", "dataset": "opv2v", "args": {"proj_first": True}}}, "proj_first"),
        ({"fusion": {"core_method": "early", "dataset": "opv2v"}}, "core_method: early"),
        ({"crop_range": [-5.0, -5.0, -3, 5, 5, 1]}, r"crops none there, -5 -5 -3 5 5 1 here"),
    ],
)
def test_other_configurations_read_clouds(
    changes: dict[str, Any], said: str, packed: Path, hypes: Hypes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(packed, crowded(hypes(packed)))
    wanted = list(batches(crowded(hypes(tmp_path / "data"), **changes)))
    caplog.clear()
    assert_same(list(batches(crowded(hypes(packed), **changes))), wanted)
    assert bool(said) == ("prepared" in caplog.text)
    assert not said or re.search(said, caplog.text)


def test_augmented_late_training_reads_clouds(packed: Path, hypes: Hypes, tmp_path: Path) -> None:
    make = crowded(hypes(packed, "late", data_augment=AUGMENT))
    report = prepare(packed, make)
    assert list(report.refused) == ["root_dir"] and "data_augment" in describe(report)
    wanted = list(batches(crowded(hypes(tmp_path / "data", "late", data_augment=AUGMENT)), train=True))
    assert_same(list(batches(make, train=True)), wanted)


def test_a_changed_grid_and_changed_code_are_noticed(
    packed: Path, hypes: Hypes, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(packed, crowded(hypes(packed)))
    caplog.clear()
    assert_same(list(batches(hypes(packed))), list(batches(hypes(tmp_path / "data"))))
    assert "voxel_size 1.6 1.6 4 there, 0.4 0.4 4 here" in caplog.text and "--prepare YAML" in caplog.text
    monkeypatch.setattr(preparing, "_CODE", (*preparing._CODE, "opencood.data.pcd", "opencood.errors"))
    preparing.preparation.cache_clear()
    caplog.clear()
    wanted = list(batches(crowded(hypes(tmp_path / "data"))))
    assert_same(list(batches(crowded(hypes(packed)))), wanted)
    assert "code " in caplog.text and "so clouds are read" in caplog.text
    preparing.preparation.cache_clear()


def test_draws_from_outside_follow_the_published_order(packed: Path, hypes: Hypes, tmp_path: Path) -> None:
    prepare(packed, crowded(hypes(packed)))
    first, second = (
        build_dataset(crowded(hypes(root)), False, draws=Draws(np.random.RandomState(1), None))
        for root in (packed, tmp_path / "data")
    )
    assert_same(first.collate_batch_test([first[0]]), second.collate_batch_test([second[0]]))


def test_drawing_needs_clouds(packed: Path, hypes: Hypes) -> None:
    prepare(packed, crowded(hypes(packed)))
    dataset = build_dataset(crowded(hypes(packed)), train=False, visualize=True)
    assert len(dataset.collate_batch_test([dataset[0]])["ego"]["origin_lidar"][0]) > 300


# What is refused


def test_configurations_that_cannot_use_them_are_refused(packed: Path, hypes: Hypes, tmp_path: Path) -> None:
    for changes, said in (
        ({"fusion": {"core_method": "early", "dataset": "opv2v"}}, "early, which merges clouds"),
        ({"fusion": {"core_method": "intermediate", "args": {"proj_first": True}}}, r"fusion\.args\.proj_first: true"),
        ({"kd_flag": {"teacher_model": "x"}}, "kd_flag"),
        ({"perturb": {"snow": {"rate": 1.0}}}, r"perturb\.snow"),
    ):
        with pytest.raises(ConfigError, match=f"--prepare: .*{said}"):
            prepare(packed, crowded(hypes(packed), **changes))
    with pytest.raises(ConfigError, match="no cloud of this configuration lies in"):
        prepare(packed, hypes(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="a packed data set was expected; make it first"):
        prepare(tmp_path / "data", hypes(packed))
    assert not list(packed.glob("prepared-*"))


# Interrupted, extended, damaged, out of date


def test_an_interrupted_run_is_continued_and_a_finished_one_kept(
    packed: Path, hypes: Hypes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    make, made = experiment.make_groups, []

    def counted(*arguments: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise Stopped
        return make(*arguments)

    monkeypatch.setattr(experiment, "make_groups", counted)
    with pytest.raises(Stopped):
        prepare(packed, hypes(packed))
    (place,) = packed.glob("prepared-*")
    assert (place / JOURNAL).exists() and "is unfinished" in verify(packed)[0]
    assert_same(list(batches(hypes(packed))), list(batches(hypes(tmp_path / "data"))))
    assert prepare(packed, hypes(packed)).kept == 2 and len(made) == 5
    assert verify(packed) == []
    assert prepare(packed, hypes(packed)).kept == 4 and len(made) == 5
    assert not (place / JOURNAL).exists()


def test_another_split_is_added(folder: Write, hypes: Hypes, tmp_path: Path) -> None:
    shutil.move(folder(), tmp_path / "both/train")
    shutil.move(folder(scenario="2021_02_02_10_00_00"), tmp_path / "both/test")
    pack(tmp_path / "both", tmp_path / "packed")
    train, test = (hypes(tmp_path / "both" / split) for split in ("train", "test"))
    assert prepare(tmp_path / "packed", train).clouds == 4
    report = prepare(tmp_path / "packed", test)
    assert (report.clouds, report.kept) == (4, 0)
    (place,) = (tmp_path / "packed").glob("prepared-*")
    assert len(Store(place, is_part=True).names) == 8 and verify(tmp_path / "packed") == []


def test_unreadable_clouds_are_left_out_and_named(folder: Write, hypes: Hypes, tmp_path: Path) -> None:
    source = folder()
    broken = source / "2021_01_01_10_00_00/641/000070.pcd"
    broken.write_bytes(broken.read_bytes()[:-9])
    pack(source, tmp_path / "packed")
    report = prepare(tmp_path / "packed", hypes(tmp_path / "packed"))
    assert report.clouds == 3 and "1 clouds could not" in describe(report)
    assert list(report.problems) == ["2021_01_01_10_00_00/641/000070.pcd"]
    dataset = build_dataset(hypes(tmp_path / "packed"), train=False)
    assert dataset[0]
    with pytest.raises(DataError, match=r"641/000070\.pcd: truncated point cloud"):
        dataset[1]


@pytest.mark.parametrize("position", [0, 5, 40, 2000, -1])
def test_a_flipped_bit_is_noticed(position: int, packed: Path, hypes: Hypes, tmp_path: Path) -> None:
    prepare(packed, hypes(packed))
    copied = shutil.copytree(packed, tmp_path / "copy")
    (place,) = copied.glob("prepared-*")
    content = bytearray((place / segment_name(0)).read_bytes())
    content[position] ^= 4
    (place / segment_name(0)).write_bytes(content)
    with pytest.raises(DataError, match=r"damaged \(checksum differs\); prepare again"):
        list(batches(hypes(copied)))
    assert len(verify(copied)) == 1


def test_voxels_of_another_cloud_are_noticed(packed: Path, hypes: Hypes, tmp_path: Path) -> None:
    prepare(packed, hypes(packed))
    victim = tmp_path / "data/2021_01_01_10_00_00/641/000070.pcd"
    content = bytearray(victim.read_bytes())
    content[-8] ^= 1
    victim.write_bytes(content)
    pack(tmp_path / "data", tmp_path / "new")
    (place,) = packed.glob("prepared-*")
    shutil.copytree(place, tmp_path / "new" / place.name)
    with pytest.raises(DataError, match=r"000070\.pcd: .* was prepared from another cloud; prepare again"):
        list(batches(hypes(tmp_path / "new")))
    assert "was prepared from another cloud" in verify(tmp_path / "new")[0]
    assert prepare(tmp_path / "new", hypes(tmp_path / "new")).kept == 3
    assert verify(tmp_path / "new") == []


def test_packing_anew_drops_them(packed: Path, hypes: Hypes, tmp_path: Path) -> None:
    prepare(packed, hypes(packed))
    assert (packed / MANIFEST).exists()
    pack(tmp_path / "data", packed, overwrite=True)
    assert not list(packed.glob("prepared-*"))


@pytest.mark.parametrize("name", ["v2xsim_intermediate", "dair_heter", "heter_m1m2m3m4", "heter_train"])
@pytest.mark.skipif(not SHARED.is_dir(), reason="the tiny data sets are not here")
def test_published_formats(name: str, tmp_path: Path, reads: list[str]) -> None:
    case = yaml.safe_load((SHARED / "golden" / "data" / name / "case.yaml").read_text())
    train = case["build"]["train"]

    def located(node: Any, base: Path) -> Any:
        if isinstance(node, dict):
            return {key: located(value, base) for key, value in node.items()}
        return str(base / node) if isinstance(node, str) and "_tiny/" in node else node

    for tiny in ("opv2v_tiny", "dair_v2x_tiny", "v2xsim_tiny"):
        if tiny in str(case["hypes"]):
            pack(SHARED / "data" / tiny, tmp_path / tiny)
            report = prepare(tmp_path / tiny, load_mapping(located(case["hypes"], tmp_path)))
            assert report.clouds and not report.problems and not report.refused
    wanted = list(batches(load_mapping(located(case["hypes"], SHARED / "data")), train))
    reads.clear()
    got = list(batches(load_mapping(located(case["hypes"], tmp_path)), train))
    assert not reads
    compared = 0
    for mine, other in zip(got, wanted, strict=True):
        for key, value in other["ego"].items():
            if isinstance(value, Mapping) and "voxel_coords" in value:
                assert_same_inputs(mine["ego"][key], value, value["voxel_features"].shape[1])
                compared += 1
    assert compared
