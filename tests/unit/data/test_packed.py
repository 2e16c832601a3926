"""Packed data sets: the same batches as from the folder, complete or not there, and every damage noticed."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opencood.config.loader import load_mapping
from opencood.data import files
from opencood.data.build import build_dataset
from opencood.data.packed.blocks import cloud_block, decode_block
from opencood.data.packed.layout import INDEX, JOURNAL, MANIFEST, Kind, segment_name
from opencood.data.pcd import read_pcd, read_points
from opencood.data.pictures import read_pixels
from opencood.errors import ConfigError, DataError, StorageError
from opencood.experiments import pack as packing
from opencood.experiments.pack import PackOptions, pack, summary, verify
from opencood.experiments.simulate import SimulationOptions, simulate
from tests.unit.data.conftest import assert_same, cloud, pcd_bytes

Hypes = Callable[..., Any]
Write = Callable[..., Path]
SHARED = Path(__file__).resolve().parents[4] / "shared"
RAW = PackOptions(images="raw")
# One of every format and sample kind, with and without pictures, training and testing.
CASES = (
    "dair_heter", "dair_late_first", "v2xsim_intermediate", "heter_m1m2m3m4", "heter_train", "early_test",
    "intermediate_camera", "intermediate_lidar_rsu", "late_train_aug", "gencomm_delay_sim",
)  # fmt: skip


def batches(hypes: Any, train: bool = False) -> Iterator[Any]:
    dataset = build_dataset(hypes, train)
    collate = dataset.collate_batch_train if train else dataset.collate_batch_test
    for index in range(len(dataset)):
        yield collate([dataset[index]])


def assert_same_batches(hypes: Callable[[Path], Any], folder: Path, store: Path, train: bool = False) -> None:
    count = 0
    for pair in zip(batches(hypes(folder), train), batches(hypes(store), train), strict=True):
        assert_same(*pair)
        count += 1
    assert count


@pytest.fixture
def store(folder: Write, tmp_path: Path) -> Path:
    """A store of two agents and two stamps, whose source is gone."""
    source = folder()
    for picture in (source / "2021_01_01_10_00_00/641").glob("*.yaml"):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(picture.with_name(f"{picture.stem}_camera0.png"))
    pack(source, tmp_path / "packed", RAW)
    source.rename(tmp_path / "kept")
    return tmp_path / "packed"


# The same batches


@pytest.mark.parametrize("name", CASES)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the tiny data sets are not here")
def test_published_formats_give_the_same_batches(name: str, tiny_stores: Path) -> None:
    case = yaml.safe_load((SHARED / "golden" / "data" / name / "case.yaml").read_text())

    def located(node: Any, base: Path) -> Any:
        if isinstance(node, dict):
            return {key: located(value, base) for key, value in node.items()}
        return str(base / node) if isinstance(node, str) and "_tiny/" in node else node

    for base in (tiny_stores / "raw", tiny_stores / "keep"):
        assert_same_batches(
            lambda root: load_mapping(located(case["hypes"], root)), SHARED / "data", base, case["build"]["train"]
        )


@pytest.fixture(scope="module")
def tiny_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    for name in ("opv2v_tiny", "dair_v2x_tiny", "v2xsim_tiny"):
        pack(SHARED / "data" / name, place / "raw" / name, RAW)
        pack(SHARED / "data" / name, place / "keep" / name)
    return place


@pytest.mark.parametrize("method", ["intermediate", "late", "early", "intermediateheter"])
def test_a_simulated_data_set_gives_the_same_batches(method: str, simulated: tuple[Path, Path], hypes: Hypes) -> None:
    source, packed = simulated
    assert_same_batches(lambda root: hypes(root / "test", method), source, packed)
    assert_same_batches(lambda root: hypes(root / "train", method), source, packed, train=True)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("simulated")
    simulate(SimulationOptions(place / "data", "mini", scenarios=(1, 1, 1), agents=(2, 2)))
    pack(place / "data", place / "packed", RAW, jobs=2)
    return place / "data", place / "packed"


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_clouds_and_pictures_are_those_of_the_files(encoding: str, tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "a").mkdir(parents=True)
    points = cloud(500)
    (source / "a/1.pcd").write_bytes(pcd_bytes(points, encoding))
    random = np.random.default_rng(1)
    for name, shape in (("rgb", (9, 7, 3)), ("grey", (9, 7)), ("rgba", (9, 7, 4))):
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(source / f"a/{name}.png")
    Image.fromarray(random.integers(0, 256, (16, 24, 3), np.uint8)).save(source / "a/photo.jpg")
    pack(source, tmp_path / "packed", RAW)
    packed = tmp_path / "packed"
    assert read_points(packed / "a/1.pcd").tobytes() == read_points(source / "a/1.pcd").tobytes()
    assert read_points(packed / "a/1.pcd").flags.writeable
    assert set(read_pcd(packed / "a/1.pcd")) == {"x", "y", "z", "intensity"}, "a file again for whoever wants one"
    for name in ("a/rgb.png", "a/grey.png", "a/rgba.png", "a/photo.jpg"):
        for mode in ("RGB", "L"):
            np.testing.assert_array_equal(read_pixels(packed / name, mode), read_pixels(source / name, mode))
    assert files.read_bytes(packed / "a/rgb.png")[1:4] == b"PNG"


def test_the_store_looks_like_the_folder(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "kept"
    assert files.is_dir(store / "2021_01_01_10_00_00") and files.exists(store / "2021_01_01_10_00_00/641/000068.pcd")
    assert not files.exists(store / "2021_01_01_10_00_00/641/000069.pcd") and not files.is_dir(store / "2021")
    for folder in (".", "2021_01_01_10_00_00", "2021_01_01_10_00_00/641"):
        packed, real = files.scan(store / folder), files.scan(source / folder)
        assert [(e.name, e.is_dir()) for e in packed] == [(e.name, e.is_dir()) for e in real]
        sizes = [(e.stat().st_size, e.stat().st_mtime_ns) for e in packed if not e.is_dir()]
        assert sizes == [(e.stat().st_size, e.stat().st_mtime_ns) for e in real if not e.is_dir()]
    with pytest.raises(DataError, match=r"000069\.pcd: cannot be read .*no such file"):
        read_points(store / "2021_01_01_10_00_00/641/000069.pcd")


# Points with less precision


@given(st.integers(0, 1000), st.floats(1, 130))
def test_millimetres_are_millimetres(seed: int, reach: float) -> None:
    points = cloud(50, seed)
    points[:, :3] *= np.float32(reach / np.abs(points[:, :3]).max())
    kind, block = cloud_block(points, "millimetre")
    found = decode_block(kind, memoryview(block), ())
    assert kind == Kind.CLOUD_MILLIMETRE and len(block) == 4 + 8 * len(points)
    assert np.abs(found[:, :3].astype(np.float64) - points[:, :3]).max() <= 0.000501 + 1e-7 * reach
    np.testing.assert_array_equal(found[:, 3], points[:, 3], "bytes of colour are exact")


def test_half_precision_and_what_does_not_fit() -> None:
    points = cloud(50)
    kind, block = cloud_block(points, "float16")
    found = decode_block(kind, memoryview(block), ())
    assert kind == Kind.CLOUD_FLOAT16 and np.abs(found - points).max() < 0.01
    far, broken, bright = points.copy(), points.copy(), points.copy()
    far[0, 0], broken[0, 1], bright[:, 3] = 70_000, np.nan, 200 * points[:, 3]
    for odd in (far, broken):
        for precision in ("float16", "millimetre"):
            kind, block = cloud_block(odd, precision)
            assert kind == Kind.CLOUD and decode_block(kind, memoryview(block), ()).tobytes() == odd.tobytes()
    kind, block = cloud_block(bright, "millimetre")
    np.testing.assert_allclose(decode_block(kind, memoryview(block), ())[:, 3], bright[:, 3], atol=0.5)


# Interrupted, changed, damaged


class Stopped(Exception):
    """What interrupts a run."""


def test_an_interrupted_run_is_continued(folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = folder(), tmp_path / "packed"
    encode, seen = packing.encode_file, []

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(arguments[1])
        if len(seen) == 4:
            raise Stopped
        return encode(*arguments, **options)

    monkeypatch.setattr(packing, "encode_file", counted)
    with pytest.raises(Stopped):
        pack(source, out)
    assert not (out / MANIFEST).exists()
    with pytest.raises(DataError, match=r"packing it was not finished; run the same .* command again"):
        files.scan(out)
    # A crash in the middle of a write: half a line, half a block; and a file that has changed since.
    with (out / JOURNAL).open("a") as journal:
        journal.write('["half')
    with (out / segment_name(0)).open("ab") as segment:
        segment.write(b"half a block")
    (source / seen[0]).write_bytes((source / seen[0]).read_bytes() + b"\n")
    with pytest.raises(ConfigError, match="with other options"):
        pack(source, out, RAW)

    changed, stopped, before = seen[0], seen[3], len(seen)
    report = pack(source, out)
    assert report.kept == 2 and seen[before : before + 2] == [changed, stopped]
    assert not (out / JOURNAL).exists() and verify(out) == []
    pack(source, tmp_path / "at_once")
    for name in sorted(set(seen)):
        np.testing.assert_array_equal(loaded(out / name), loaded(tmp_path / "at_once" / name))


def loaded(path: Path) -> Any:
    content = files.load(path)
    return np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content


@pytest.mark.parametrize("change", ["content", "gone", "longer"])
def test_a_changed_source_is_noticed(change: str, folder: Write, tmp_path: Path, hypes: Hypes) -> None:
    source = folder()
    pack(source, tmp_path / "packed")
    victim = source / "2021_01_01_10_00_00/641/000070.pcd"
    content = bytearray(victim.read_bytes())
    os.utime(victim)
    build_dataset(hypes(tmp_path / "packed"), train=False)[0]  # another time alone is no change
    if change == "gone":
        victim.unlink()
    else:
        content[-1] ^= 1
        victim.write_bytes(bytes(content) + (b"x" if change == "longer" else b""))
    fresh = shutil.copytree(tmp_path / "packed", tmp_path / "copy")  # as another process would open it
    with pytest.raises(DataError, match=r"which has changed since \(2021_01_01_10_00_00/641/000070\.pcd .*again"):
        build_dataset(hypes(fresh), train=False)
    with pytest.raises(DataError, match="has changed since"):
        verify(tmp_path / "packed")


def test_a_new_file_in_the_source_is_found_by_verify(folder: Write, tmp_path: Path) -> None:
    source = folder()
    pack(source, tmp_path / "packed")
    (source / "new.txt").write_text("x")
    assert verify(tmp_path / "packed") == ["source changed: new.txt is new"]


@given(st.integers(0, 10**9), st.integers(0, 7))
def test_any_flipped_bit_is_noticed(damaged: Callable[[str, int, int], Path], position: int, bit: int) -> None:
    for name in (MANIFEST, INDEX, segment_name(0)):
        place = damaged(name, position, bit)
        found = []
        try:
            found = verify(place)
            for problem in found:
                read = place / problem.partition(": ")[0].removeprefix(f"{place}/")
                with pytest.raises(DataError, match="damaged"):
                    files.load(read)
        except DataError as error:
            found.append(str(error))
        assert found, f"{name}: bit {bit} of byte {position}"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], Path]:
    """``damaged(file, position, bit)`` -> a store with one flipped bit; the next call repairs it."""
    place = tmp_path_factory.mktemp("damaged").resolve()
    source = place / "data/s/1"
    source.mkdir(parents=True)
    (source / "0.pcd").write_bytes(pcd_bytes(cloud(30)))
    (source / "0.yaml").write_text("lidar_pose: [0, 0, 0, 0, 0, 0]\n" * 3)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)).save(source / "0_camera0.png")
    pack(place / "data", place / "whole", RAW)
    shutil.rmtree(place / "data")
    counter = iter(range(10**6))

    def make(name: str, position: int, bit: int) -> Path:
        shutil.rmtree(place / "broken", ignore_errors=True)
        broken = shutil.copytree(place / "whole", place / "broken" / str(next(counter)))
        content = bytearray((broken / name).read_bytes())
        content[position % len(content)] ^= 1 << bit
        (broken / name).write_bytes(content)
        return broken

    return make


def test_a_cut_file_and_a_missing_one_are_noticed(store: Path) -> None:
    segment = store / segment_name(0)
    os.truncate(segment, segment.stat().st_size - 1)
    with pytest.raises(DataError, match=r"data-00000\.bin: expected \d+ bytes, found \d+"):
        verify(store)
    segment.unlink()
    with pytest.raises(DataError, match=r"data-00000\.bin: cannot be read"):
        verify(store)


# What is refused, and what is said


def test_files_that_cannot_be_decoded_are_kept_and_named(folder: Write, tmp_path: Path, hypes: Hypes) -> None:
    source = folder()
    broken = source / "2021_01_01_10_00_00/641/000070.pcd"
    broken.write_bytes(broken.read_bytes()[:-9])
    report = pack(source, tmp_path / "packed")
    text = summary(report)
    assert "1 files could not be decoded" in text and "truncated point cloud" in text and "000070.pcd" in text
    assert "clouds, float32" in text and "together" in text
    dataset = build_dataset(hypes(tmp_path / "packed"), train=False)
    with pytest.raises(DataError, match=r"packed/.*641/000070\.pcd: truncated point cloud"):
        dataset[1]


def test_folders_that_contradict_each_other(store: Path, folder: Write, tmp_path: Path) -> None:
    source = tmp_path / "kept"
    for place in (source, source / "inside", tmp_path):
        with pytest.raises(ConfigError, match="must lie outside"):
            pack(source, place)
    with pytest.raises(ConfigError, match="a packed data set itself"):
        pack(store, tmp_path / "again")
    with pytest.raises(StorageError, match="a finished store of .*--overwrite"):
        pack(source, store)
    assert pack(source, store, overwrite=True).kept == 0 and verify(store) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"holds other files \(thesis\.txt\)"):
        pack(source, tmp_path / "full", overwrite=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        pack(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigError, match="--points: 'fp8' is none of"):
        PackOptions(points="fp8")
    with pytest.raises(DataError, match="a packed data set was expected"):
        verify(source)


def test_other_processes_open_the_store_for_themselves(store: Path, hypes: Hypes) -> None:
    dataset = build_dataset(hypes(store), train=False)
    again = pickle.loads(pickle.dumps(dataset.reader))
    again.replan(dataset._draws("plan"))
    assert again.frame(0).agents[0].lidar.read().shape == (300, 4)
