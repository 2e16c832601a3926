"""Bad input, as a user meets it: one clear line that names the file or key and the fix, or a counted, reported skip."""

from __future__ import annotations

import importlib
import os
import re
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.errors import CheckpointError, ConfigError, DataError, OpencoodError, StorageError
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.experiments.evaluate import evaluate_file
from opencood.experiments.hypes_check import check_file
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.training import TrainingOptions, run_training
from opencood.models.checkpoints import write_state_dict
from opencood.tools import _cli
from opencood.training.checkpoints import save_last
from tests.unit.data.conftest import cloud, pcd_bytes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
QUIET: dict[str, Any] = {"workers": 0, "device": "cpu"}
SILENT: dict[str, Any] = QUIET | {"progress": False, "save_vis_interval": 0}
SMALL = [-19.2, -19.2, -3, 19.2, 19.2, 1]
ENCODINGS = ("ascii", "binary", "binary_compressed")

Hypes = Callable[..., Path]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sim") / "data"
    simulate(SimulationOptions(out=folder, preset="mini", seed=5))
    return folder


@pytest.fixture
def data(simulated: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(simulated, tmp_path / "data")


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hypes(tmp_path: Path, simulated: Path) -> Hypes:
    """``hypes(root, detector, **changes)`` writes a hypes file with a small range and returns its path."""

    def write(root: Path | None = None, detector: str = "late", **changes: Any) -> Path:
        folder = root or simulated
        content = {
            "_base_": str(SHIPPED / "sim" / f"{detector}.yaml"),
            "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL},
            "train_params": {"batch_size": 1, "epoches": 1, "save_freq": 1, "eval_freq": 1},
            "root_dir": str(folder / "train"),
            "validate_dir": str(folder / "validate"),
            "test_dir": str(folder / "test"),
        }
        return write_yaml(tmp_path / f"{detector}.yaml", content | changes)

    return write


@pytest.fixture
def run_folder(tmp_path: Path, hypes: Hypes) -> Callable[..., Path]:
    """``run_folder(root, detector, **changes)`` makes a folder with a configuration and random weights."""

    def make(root: Path | None = None, detector: str = "late", **changes: Any) -> Path:
        folder = tmp_path / f"run_{detector}"
        content = load_yaml(hypes(root, detector, **changes))
        save_config(content, folder)
        torch.manual_seed(0)
        torch.save(build_model(content).state_dict(), folder / "net_epoch3.pth")
        return folder

    return make


@pytest.fixture
def one_line(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``one_line(tool, *arguments)`` runs a tool that must end in one line ``error: ...`` and returns that line."""

    def run(tool: str, *arguments: object) -> str:
        main = importlib.import_module(f"opencood.tools.{tool}").main
        with pytest.raises(SystemExit) as ended:
            _cli.run(main, [str(argument) for argument in arguments])
        return error_line(ended.value.code, capfd.readouterr().err)

    return run


def error_line(code: object, stderr: str) -> str:
    lines = [line for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    assert code == _cli.EXIT_USER_ERROR, stderr
    assert "Traceback" not in stderr
    assert [line.startswith("error: ") for line in lines].count(True) == 1 and lines[-1].startswith("error: "), stderr
    return lines[-1]


def run_tool(tool: str, *arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """A true run; ``limit`` is the size in bytes that no file can exceed, as on a full disk."""
    command = [sys.executable, str(ROOT / "opencood" / "tools" / f"{tool}.py"), *map(str, arguments)]
    prepare = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, preexec_fn=prepare, check=False
    )


def sweeps(root: Path, split: str = "train") -> list[Path]:
    return sorted((root / split).rglob("*.pcd"))


def metadata(root: Path, split: str = "train") -> list[Path]:
    return sorted((root / split).rglob("0*.yaml"))


def read_all(file: Path, train: bool = True) -> list[Any]:
    dataset = build_dataset(load_yaml(file), train=train)
    return [dataset[index] for index in range(len(dataset))]


# --- data folders -----------------------------------------------------------------------------------------------------


def test_a_missing_folder_ends_every_tool_in_one_line(
    hypes: Hypes, run_folder: Callable[..., Path], tmp_path: Path, one_line: Callable[..., str]
) -> None:
    file = hypes(root_dir=str(tmp_path / "nowhere"))
    assert re.search(r"root_dir: no folder '.*nowhere'.*give the folder", one_line("train", "-y", file))
    folder = run_folder(test_dir=str(tmp_path / "nowhere"))
    line = one_line("inference", "--model_dir", folder, "--device", "cpu")
    assert re.search(r"config\.yaml: test_dir: no folder '.*nowhere'", line)


def test_an_empty_folder_and_a_file_instead_of_one(hypes: Hypes, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"root_dir: '.*empty' holds no <scenario>/<agent>/<stamp>\.yaml"):
        run_training(hypes(root_dir=str(tmp_path / "empty")), None, TrainingOptions(**QUIET))
    with pytest.raises(DataError, match="root_dir: no folder"):
        run_training(hypes(root_dir=str(hypes())), None, TrainingOptions(**QUIET))


def test_a_scenario_without_agents(hypes: Hypes, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "train" / "2021_09_01_00_00_00" / "notes").mkdir(parents=True)
    with pytest.raises(DataError, match=r"2021_09_01_00_00_00 has no valid agent.*on_bad_frame: skip"):
        build_dataset(load_yaml(hypes(data)), train=True)
    assert all(read_all(hypes(data, on_bad_frame="skip")))
    assert "2021_09_01_00_00_00 has no valid agent" in caplog.text


def test_an_agent_that_misses_a_stamp(hypes: Hypes, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    test = [file for file in metadata(data, "test") if file.parent.name != ego_of(file)]
    test[0].unlink()
    with pytest.raises(DataError, match=rf"agent {test[0].parent.name} has no metadata file for stamp"):
        read_all(hypes(data, validate_dir=str(data / "test")), train=False)
    samples = read_all(hypes(data, validate_dir=str(data / "test"), on_bad_frame="skip"), train=False)
    assert sum(sample is None for sample in samples) == 1
    assert "is left out (on_bad_frame: skip)" in caplog.text


def ego_of(file: Path) -> str:
    return min(folder.name for folder in file.parents[1].iterdir() if folder.is_dir())


# --- broken files -----------------------------------------------------------------------------------------------------

METADATA = {
    "truncated": (lambda text: text[: len(text) // 2], r"broken YAML|missing key"),
    "empty": (lambda text: b"", r"found nothing; truncated file"),
    "binary": (lambda text: bytes(range(256)) * 4, r"broken YAML"),
    "no vehicles": (lambda text: text.partition(b"vehicles:")[0], r"missing key 'vehicles'"),
    "a list of vehicles": (lambda text: text.partition(b"vehicles:")[0] + b"vehicles: [1]", r"'vehicles' must be a"),
    "a pose of text": (lambda text: posed(text, b"[a, b, c, d, e, f]"), r"'lidar_pose' must be 6 finite numbers"),
    "a pose with NaN": (lambda text: posed(text, b"[.nan, 0, 0, 0, 0, 0]"), r"'lidar_pose' must be 6 finite numbers"),
    "an object tag": (lambda text: b"x: !!python/object/apply:os.getcwd []\n" + text, r"line 1.*is not allowed"),
    "an impossible date": (lambda text: posed(text, b"2021-99-99"), r"broken YAML in line \d+.*month"),
}  # fmt: skip


def posed(text: bytes, pose: bytes) -> bytes:
    return re.sub(rb"lidar_pose: \[.*?\]", b"lidar_pose: " + pose, text, flags=re.DOTALL)


@pytest.mark.parametrize("damage", METADATA)
def test_broken_metadata(hypes: Hypes, data: Path, damage: str) -> None:
    change, message = METADATA[damage]
    file = metadata(data)[0]
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=rf"{file.name}: .*({message}).*on_bad_frame: skip") as caught:
        build_dataset(load_yaml(hypes(data)), train=True)
    assert "\n" not in str(caught.value)
    assert build_dataset(load_yaml(hypes(data, on_bad_frame="skip")), train=True)


def test_a_link_to_nothing_is_a_broken_file(hypes: Hypes, data: Path) -> None:
    file = metadata(data)[0]
    file.unlink()
    file.symlink_to(data / "nowhere")
    with pytest.raises(DataError, match=rf"{file.name}: cannot be read"):
        build_dataset(load_yaml(hypes(data)), train=True)


POINTS = cloud(300)
SWEEPS = {
    **{f"truncated {kind}": (pcd_bytes(POINTS, kind)[:-700], "truncated point cloud") for kind in ENCODINGS},
    "corrupt ascii": (pcd_bytes(POINTS, "ascii").replace(b"0.5", b"x.5"), "no number; corrupt file"),
    "corrupt compressed": (pcd_bytes(POINTS, "binary_compressed")[:300] + bytes(4000), "point cloud"),
    "empty": (b"", "no PCD header"),
    "not a point cloud": (b"hello\n" * 20, "no PCD header"),
    "negative count": (pcd_bytes(POINTS).replace(b"POINTS 300", b"POINTS -30"), "unreadable PCD header"),
    "a field twice": (pcd_bytes(POINTS).replace(b"x y z", b"x x z"), "unreadable PCD header"),
    "a field of no values": (pcd_bytes(POINTS).replace(b"COUNT 1", b"COUNT 0"), "unreadable PCD header"),
    "no points": (pcd_bytes(POINTS[:0]), "no valid point"),
    "NaN": (pcd_bytes(POINTS + np.float32([[np.nan, 0, 0, 0]] + [[0, 0, 0, 0]] * 299)), "1 of 300 points are NaN"),
    "out of range": (pcd_bytes(POINTS + np.float32([900, 0, 0, 0])), "no point of any agent lies in the range"),
}


@pytest.mark.parametrize("damage", SWEEPS)
def test_broken_sweeps_stop_or_are_skipped_and_counted(
    hypes: Hypes, data: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    content, message = SWEEPS[damage]
    for file in sweeps(data)[0].parents[1].rglob("*.pcd"):
        file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{message}.*on_bad_frame: skip"):
        read_all(hypes(data))
    dataset = build_dataset(load_yaml(hypes(data, on_bad_frame="skip")), train=True)
    samples = [dataset[index] for index in [*range(len(dataset)), 0]]
    assert [sample is None for sample in samples] == [True, True, False, False, True]
    assert dataset.frames_left_out == [0, 1]
    assert caplog.text.count("is left out (on_bad_frame: skip)") == 2


def test_when_every_frame_is_broken_skipping_is_no_way_out(hypes: Hypes, data: Path) -> None:
    for file in sweeps(data):
        file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"left out every frame of the split \(4\); the last: .*truncated point cloud"):
        run_training(hypes(data, on_bad_frame="skip"), None, TrainingOptions(**QUIET))


def test_a_training_counts_what_it_left_out(hypes: Hypes, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in sweeps(data)[0].parents[1].rglob("*.pcd"):
        file.write_bytes(b"")
    run_training(hypes(data, on_bad_frame="skip"), None, TrainingOptions(**(QUIET | {"workers": 2})))
    assert "2 of 4 training frames were broken and left out (on_bad_frame: skip)." in caplog.text
    assert caplog.text.count("is left out (on_bad_frame: skip)") == 2


def test_an_evaluation_counts_what_it_left_out(
    run_folder: Callable[..., Path], data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweeps(data, "test")[0].write_bytes(b"")
    report = run_inference(InferenceOptions(run_folder(data, on_bad_frame="skip"), "late", **(SILENT | {"workers": 2})))
    assert report.frames == 3
    assert "1 broken frame(s) were left out (on_bad_frame: skip)." in "\n".join(report.lines())


def test_an_error_in_a_loader_worker_is_the_same_line(run_folder: Callable[..., Path], data: Path) -> None:
    file = sweeps(data, "test")[0]
    file.write_bytes(file.read_bytes()[:3000])
    messages = []
    for workers in (0, 2):
        with pytest.raises(DataError) as caught:
            run_inference(InferenceOptions(run_folder(data), "late", **(SILENT | {"workers": workers})))
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and file.name in messages[0] and "Traceback" not in messages[0]


def test_a_corrupt_picture(hypes: Hypes, data: Path) -> None:
    camera = {"cords": [0.0, 0, 2, 0, 0, 0], "intrinsic": [[60.0, 0, 50], [0, 60, 40], [0, 0, 1]]}
    for file in metadata(data):
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"camera0": camera}))
        Image.new("RGB", (100, 80), "green").save(file.with_name(f"{file.stem}_camera0.png"))
    conf = {"resize_lim": [0.6, 0.7], "final_dim": [40, 60], "rot_lim": [0, 0], "H": 80, "W": 100, "rand_flip": False,
            "bot_pct_lim": [0, 0.05], "cams": ["camera0"], "Ncams": 1}  # fmt: skip
    cameras = {"input_source": ["lidar", "camera"], "fusion": {"args": {"data_aug_conf": conf}}}
    assert all(read_all(hypes(data, **cameras)))
    pictures = sorted((data / "train").rglob("*_camera0.png"))
    for content in (pictures[0].read_bytes()[:60], b"", b"no picture", None):
        for picture in pictures:
            picture.unlink() if content is None else picture.write_bytes(content)
        with pytest.raises(DataError, match=r"_camera0\.png: picture cannot be read .*corrupt file"):
            read_all(hypes(data, **cameras))


# --- configurations ---------------------------------------------------------------------------------------------------

WRONG_FILES = {
    "": "expected a map of configuration keys, found an empty file",
    "a: [1\n": r":2: .*",
    "a:\n\t- b\n": r":2: .*",
    "a: 2021-13-45\n": ":1: unreadable value: month",
    "a: !!float abc\n": ":1: unreadable value",
    "- 1\n": "found a list",
    "a: &x 1\nb: *y\n": ":2: found undefined alias",
    "a: &a\n  b: *a\n": "an alias refers to the value that contains it",
    "name: x\n---\nname: y\n": ":2: .*another document",
    "_base_: own.yaml\n": r"_base_ leads back to the file itself: own\.yaml -> own\.yaml",
    "_base_: other.yaml\n": r"leads back to the file itself: own\.yaml -> other\.yaml -> own\.yaml",
    "_base_: nowhere.yaml\n": r"nowhere\.yaml: no such file",
    "_base_: 5\n": "_base_: expected a file name",
    "_base_: .\n": "cannot be read: Is a directory",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.yaml").write_text("_base_: own.yaml\n")
    (tmp_path / "own.yaml").write_text(text)
    error = check_file(tmp_path / "own.yaml").error
    assert re.search(WRONG_FILES[text], error) and "\n" not in error


HUGE = [-1e6, -1e6, -3, 1e6, 1e6, 1]
TURNED = [19.2, 19.2, 1, -19.2, -19.2, -3]
EVERYWHERE = ("cav_lidar_range", "lidar_range", "gt_range")
WRONG_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"train_params": {"batch_size": 0}}, r"late\.yaml:\d+: train_params\.batch_size: expected a whole number above 0"),
    ({"train_params": {"epoches": "ten"}}, r"train_params\.epoches: expected a whole number.*found 'ten'"),
    ({"train_params": "_delete_"}, r"train_params: missing"),
    ({"fusion": None}, r"fusion: missing"),
    ({"model": "point_pillar"}, r"model: expected a map"),
    ({"loss": None}, r"loss: the section is missing"),
    ({"postprocess": None}, r"postprocess\.anchor_args: missing"),
    ({"on_bad_frame": "skp"}, r"on_bad_frame: expected one of error, skip.*Did you mean 'skip'"),
    ({"input_source": ["lidr"]}, r"input_source: expected a list of lidar, camera, depth"),
    ({"model": {"core_method": "point_pilar"}}, r"unknown model 'point_pilar'\. Did you mean 'point_pillar'"),
    ({"loss": {"core_method": "point_pillar_los"}}, r"loss\.core_method: unknown loss.*Did you mean"),
    ({"fusion": {"core_method": "latee"}}, r"fusion\.core_method: unknown sample 'latee'\. Did you mean 'late'"),
    ({"preprocess": {"args": {"voxel_size": [0, 0, 0]}}}, r"voxel_size: expected three sizes above 0"),
    ({"preprocess": {"args": {"voxel_size": [0.4, 0.4, 4]}}}, r"preprocess makes 96 x 96 cells.*places 48 x 48"),
    ({"preprocess": {"args": {"max_points_per_voxel": "many"}}}, r"max_points_per_voxel: expected a whole number"),
    ({"preprocess": {"args": {"max_points_per_voxel": 0}}}, r"max_points_per_voxel: expected at least 1"),
    ({"_everywhere_": dict.fromkeys(EVERYWHERE, TURNED)}, r"cav_lidar_range: expected .* with x0 < x1"),
    ({"_everywhere_": dict.fromkeys(EVERYWHERE, HUGE)}, r"2\.5e\+06 cells along one axis.*in metres"),
    ({"_everywhere_": {"cav_lidar_rang": SMALL}}, r"no inherited map has 'cav_lidar_rang'\. Did you mean"),
    ({"model": {"args": {"pillar_vfe": 5}}}, r"model\.args\.pillar_vfe: expected a map"),
    ({"model": {"args": {"pillar_vfe": {"num_filters": "x"}}}}, r"num_filters: expected a list"),
    ({"model": {"args": {"pillar_vfe": {"num_filters": [-3]}}}}, r"num_filters: expected widths of at least 1"),
    ({"model": {"args": {"anchor_number": 3}}}, r"anchor_number is 3.*places 2"),
    ({"loss": {"args": {"pos_cls_weight": "x"}}}, r"loss\.args\.pos_cls_weight: expected a number"),
    ({"noise_setting": {"add_noise": True, "args": {"pos_std": -1, "rot_std": 0}}}, r"pos_std: .* not below 0"),
    ({"nothing": "_delete_"}, r"there is no inherited key 'nothing' to delete"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), WRONG_KEYS)
def test_wrong_keys_are_named_before_anything_runs(hypes: Hypes, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpencoodError, match=message) as caught:
        build_everything(hypes(**with_train_params(changes)))
    assert "\n" not in str(caught.value)


def with_train_params(changes: dict[str, Any]) -> dict[str, Any]:
    section = changes.get("train_params")
    base = {"batch_size": 1, "epoches": 1, "save_freq": 1, "eval_freq": 1}
    return changes | {"train_params": base | section} if isinstance(section, dict) else changes


def build_everything(file: Path) -> None:
    content = load_yaml(file)
    build_dataset(content, train=True)
    build_model(content)
    build_loss(content)


def test_a_misspelt_key_warns_with_the_nearest_one(hypes: Hypes) -> None:
    with pytest.warns(UserWarning, match=r"unknown key 'comm_rang' is ignored\. Did you mean 'comm_range'"):
        load_yaml(hypes(comm_rang=50))


def test_a_range_that_the_strides_do_not_divide(hypes: Hypes) -> None:
    odd = [-10, -10, -3, 10, 10, 1]
    file = hypes(_everywhere_=dict.fromkeys(EVERYWHERE, odd))
    with pytest.raises(ConfigError, match=r"must be multiples of the product of layer_strides"):
        run_training(file, None, TrainingOptions(**QUIET))


# --- run folders and checkpoints --------------------------------------------------------------------------------------


def test_run_folders(run_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such run folder"):
        run_inference(InferenceOptions(tmp_path / "nowhere", **SILENT))
    folder = run_folder()
    shutil.copy(folder / "net_epoch3.pth", folder / "net_epoch_bestval_at1.pth")
    shutil.copy(folder / "net_epoch3.pth", folder / "net_epoch_bestval_at2.pth")
    with pytest.warns(UserWarning, match=r"2 best checkpoints; net_epoch_bestval_at2\.pth is taken"):
        report = run_inference(InferenceOptions(folder, limit=1, **SILENT))
    assert report.protocol["checkpoint"]["file"].endswith("net_epoch_bestval_at2.pth")
    for file in folder.glob("*.pth"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"holds no checkpoint .*--untrained"):
        run_inference(InferenceOptions(folder, **SILENT))
    (folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"no config\.yaml\. Copy the hypes file"):
        run_inference(InferenceOptions(folder, **SILENT))


CHECKPOINTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[: len(content) // 2], "it is truncated or damaged"),
    "empty": (lambda content: b"", "it is empty"),
    "a pointer": (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a web page": (lambda content: b"<!DOCTYPE html>", "a web page"),
    "text": (lambda content: b"hello", "it is no checkpoint"),
}


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_damaged_checkpoints(run_folder: Callable[..., Path], damage: str) -> None:
    change, message = CHECKPOINTS[damage]
    file = run_folder() / "net_epoch3.pth"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(
        CheckpointError, match=rf"net_epoch3\.pth: cannot be read as a checkpoint: .*{message}"
    ) as caught:
        run_inference(InferenceOptions(file.parent, **SILENT))
    assert "weights_only" not in str(caught.value)


def test_checkpoints_of_another_model_and_of_a_diverged_training(run_folder: Callable[..., Path]) -> None:
    late, other = run_folder(), run_folder(detector="intermediate")
    state = torch.load(late / "net_epoch3.pth", weights_only=True)
    shutil.copy(other / "net_epoch3.pth", late / "net_epoch3.pth")
    with pytest.raises(CheckpointError, match=r"belongs to another model: .* The file is of a model with modalities"):
        run_inference(InferenceOptions(late, **SILENT))
    torch.save({name: value[..., :1] if value.ndim > 1 else value for name, value in state.items()},
               late / "net_epoch3.pth")  # fmt: skip
    with pytest.raises(CheckpointError, match=r"entries have another shape in this model: pillar_vfe"):
        run_inference(InferenceOptions(late, **SILENT))
    torch.save(
        {name: value * np.nan if value.ndim else value for name, value in state.items()}, late / "net_epoch3.pth"
    )
    with pytest.raises(CheckpointError, match=r"entries hold NaN: pillar_vfe.*diverged"):
        run_inference(InferenceOptions(late, **SILENT))


# --- command lines ----------------------------------------------------------------------------------------------------

ARGUMENTS = [
    (("--fusion_method", "late"), r"contradicts the configuration.*--agents ego"),
    (("--fusion_method", "interm"), r"Did you mean 'intermediate'"),
    (("--agents", "2..3"), r"--agents: '2\.\.3' is none of ego"),
    (("--range", "wide"), r"--range: expected two numbers"),
    (("--range", "inf,5"), r"--range: expected two positive numbers"),
    (("--range=-5,5",), r"--range: expected two positive numbers"),
    (("--range", "1e7,1e7"), r"cells along one axis"),
    (("--range", "1,1"), r"no point of any agent lies in the range"),
    (("--limit", "0"), r"--limit: expected a whole number of at least 1, found '0'"),
    (("--workers", "-1"), r"--workers: expected a whole number of at least 0"),
    (("--seed", "-1"), r"--seed: expected a whole number of at least 0"),
    (("--device", "gpu"), r"--device gpu: not usable here"),
    (("--device", "meta"), r"--device meta: not usable here"),
    (("--note", "../x"), r"--note: '\.\./x' becomes a part of file names"),
    (("--save_detections", "."), r"--save_detections: '\.' is a folder"),
    (("--parity", "fixd"), r"--parity: invalid choice: 'fixd'"),
    (("--modeldir", "x"), r"unrecognized arguments"),
]


def test_nonsense_for_inference(run_folder: Callable[..., Path], one_line: Callable[..., str]) -> None:
    folder = run_folder(detector="intermediate")
    for given, message in ARGUMENTS:
        options = ("--device", "cpu") if "--device" not in given else ()
        line = one_line("inference", "--model_dir", folder, "--save_vis_interval", 0, "--workers", 0, *options, *given)
        assert re.search(message, line), line


def test_nonsense_for_the_other_tools(hypes: Hypes, tmp_path: Path, one_line: Callable[..., str]) -> None:
    file, out = hypes(), tmp_path / "sim"
    for tool, given, message in (
        ("train", ("-y", tmp_path / "no.yaml"), r"no\.yaml: no such file"),
        ("train", (), "arguments are required: -y"),
        ("train", ("-y", "None"), "no hypes file: give one with -y FILE"),
        ("train", ("-y", file, "--workers", -1), "--workers: expected"),
        ("train", ("-y", file, "--overfit", 0), "--overfit: expected a whole number of at least 1"),
        ("train", ("-y", file, "--fusion_method", "early"), "contradicts the configuration"),
        ("simulate", ("--out", out, "--scenarios", "x"), "--scenarios: expected numbers such as 20 or 20,4,10"),
        ("simulate", ("--out", out, "--agents", "5-2"), "--agents: expected a range inside 1-5"),
        ("simulate", ("--out", out, "--preset", "tiny"), "--preset: unknown 'tiny'"),
        ("simulate", ("--out", file / "below", "--preset", "mini"), "cannot be written"),
        ("simulate", ("--out", file.parent, "--preset", "mini"), "is not empty"),
        ("evaluate", (tmp_path / "no.npz",), r"no\.npz: no such file"),
        ("evaluate", (file,), "not a readable detection file"),
        ("check_hypes", (tmp_path / "nowhere",), "no such file or folder"),
        ("list_methods", ("fusio",), "Did you mean 'fusion'"),
        ("doctor", ("--root", tmp_path / "nowhere"), "--root: no folder"),
    ):
        line = one_line(tool, *given)
        assert re.search(message, line), line


def test_damaged_detection_files(tmp_path: Path) -> None:
    boxes = np.zeros((2, 8, 3), np.float32)
    whole = DetectionSet((FrameDetections(boxes, np.ones(2, np.float32), boxes),)).save(tmp_path / "whole.npz")
    content, arrays = whole.read_bytes(), dict(np.load(whole))
    broken = tmp_path / "broken.npz"
    for damaged in (content[:500], b"", content[: len(content) // 2] + bytes(60) + content[len(content) // 2 + 60 :]):
        broken.write_bytes(damaged)
        with pytest.raises(DataError, match=r"broken\.npz: not a readable detection file"):
            evaluate_file(broken)
    for change in (
        {"names": np.array(["a", "b"])},
        {"ground_truth_counts": np.array([9])},
        {"protocol": np.array("x")},
    ):
        np.savez(broken, **(arrays | change))
        with pytest.raises(DataError, match=r"broken\.npz: .*the file is damaged"):
            evaluate_file(broken)


# --- full disks -------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(limit: int = 1000) -> Iterator[None]:
    """No file can grow beyond ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_previous_file(hypes: Hypes, tmp_path: Path) -> None:
    content, state = load_yaml(hypes()), {"weight": torch.zeros(1000)}
    boxes = np.random.default_rng(0).normal(size=(99, 8, 3)).astype(np.float32)
    detections = DetectionSet((FrameDetections(boxes, boxes[:, 0, 0], boxes),))
    writers: dict[str, Callable[[Path], Any]] = {
        "config.yaml": lambda file: save_config(content, file.parent),
        "last.ckpt": lambda file: save_last(file.parent, {"model": state}),
        "net_epoch1.pth": lambda file: write_state_dict(state, file),
        "eval.yaml": lambda file: write_yaml(file, {"ap": list(range(999))}),
        "boxes.npz": lambda file: detections.save(file),
    }
    for name, write in writers.items():
        folder = tmp_path / f"folder of {name}"
        folder.mkdir()
        (folder / name).write_text("the previous file")
        with full_disk(), pytest.raises(StorageError, match=rf"{re.escape(name)}: .*be written"):
            write(folder / name)
        assert [file.name for file in folder.iterdir()] == [name]
        assert (folder / name).read_text() == "the previous file"
        write(folder / name)
        assert (folder / name).stat().st_size > 1000


def test_a_folder_that_cannot_be_made(hypes: Hypes, tmp_path: Path) -> None:
    below_a_file = hypes() / "run"
    with pytest.raises(StorageError, match=r"late\.yaml/run: cannot be made \(Not a directory\)"):
        run_training(hypes(), None, TrainingOptions(run_dir=below_a_file, **QUIET))


def test_simulating_onto_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "sim"
    done = run_tool("simulate", "--out", out, "--preset", "mini", limit=60_000)
    assert re.search(r"sim/train/\S+: cannot be written \(File too large\)", error_line(done.returncode, done.stderr))
    assert list(out.iterdir()) == []
    assert run_tool("simulate", "--out", out, "--preset", "mini", "--scenarios", 1).returncode == 0


def test_training_onto_a_full_disk(hypes: Hypes, tmp_path: Path) -> None:
    done = run_tool("train", "-y", hypes(), "--device", "cpu", "--workers", 0, "--no_eval", limit=100_000)
    assert re.search(
        r"net_epoch1\.pth: could not be written \(File too large\)", error_line(done.returncode, done.stderr)
    )
    (folder,) = (tmp_path / "opencood" / "logs").iterdir()
    left = {file.name for file in folder.iterdir()}
    assert "config.yaml" in left and not [name for name in left if name.startswith(".") or name.endswith(".pth")]


def test_more_processes_than_samples(hypes: Hypes) -> None:
    settings = {"batch_size": 3, "epoches": 1, "save_freq": 1, "eval_freq": 1}
    tool = [str(ROOT / "opencood/tools/train_ddp.py"), "-y", str(hypes(train_params=settings)), "--device", "cpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *tool], capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if "error: " in line and "train_params" in line]
    assert any("the training set has 4 samples, a step needs 6 (3 on each of 2 process(es))" in line for line in errors)
    assert "opencood/training" not in done.stderr, "no trace of ours"
