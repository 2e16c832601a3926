"""Whole trainings on simulated data: files, resuming after SIGKILL, several processes, learning by heart, sanity."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_dataset
from opencood.experiments.overfit import run_overfit
from opencood.experiments.sanity import check_frame, check_ranges, check_start
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.training import TrainingOptions, run_training

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "opencood" / "tools"
QUIET = {"workers": 0, "device": "cpu"}
SMALL = [-19.2, -19.2, -3, 19.2, 19.2, 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim") / "data"
    simulate(SimulationOptions(out=folder, preset="mini", seed=5))
    return folder


@pytest.fixture
def hypes(data, tmp_path):
    """A function that writes a hypes file of a shipped detector with a small range."""

    def write(detector="intermediate", **changes):
        splits = {"root_dir": "train", "validate_dir": "validate", "test_dir": "test"}
        content = {
            "_base_": str(SHIPPED / "sim" / f"{detector}.yaml"),
            "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL},
            "train_params": {"batch_size": 1, "epoches": 2, "save_freq": 1, "eval_freq": 1, "last_every_steps": 1},
            **{key: str(data / split) for key, split in splits.items()},
            **changes,
        }
        return write_yaml(tmp_path / f"{detector}.yaml", content)

    return write


def command(tool, *arguments):
    return [sys.executable, str(TOOLS / f"{tool}.py"), *map(str, arguments), "--device", "cpu", "--workers", "0"]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def weights(folder, epoch):
    return torch.load(folder / f"net_epoch{epoch}.pth", weights_only=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def steps_done(folder):
    path = folder / "training.jsonl"
    return path.read_text().count('"event": "step"') if path.is_file() else 0


def run_folder(path):
    (folder,) = (path / "opencood" / "logs").iterdir()
    return folder


def test_a_run_killed_by_sigkill_ends_with_the_same_weights(hypes, tmp_path):
    file = hypes()
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    start = command("train", "-y", file, "--no_eval")
    subprocess.run(start, cwd=tmp_path / "whole", env=environment(), check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(start, cwd=tmp_path / "killed", env=environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    logs = tmp_path / "killed" / "opencood" / "logs"
    deadline = time.monotonic() + 240
    while not (logs.is_dir() and any(steps_done(folder) >= 2 for folder in logs.iterdir())):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed, whole = run_folder(tmp_path / "killed"), run_folder(tmp_path / "whole")
    again = command("train", "-y", "None", "--model_dir", killed, "--no_eval")
    done = subprocess.run(again, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "resuming at epoch" in done.stderr
    a, b = weights(whole, 2), weights(killed, 2)
    assert list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
    assert steps_done(whole) == steps_done(killed)


def test_the_run_folder(hypes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run_training(hypes("late"), None, TrainingOptions(**QUIET))
    assert folder.parent == Path("opencood/logs") and folder.name.startswith("sim_late_20")
    found = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "code_version.txt", "last.ckpt", "net_epoch1.pth", "net_epoch2.pth"} <= found
    assert sum("bestval" in name for name in found) == 1
    assert load_yaml(None, model_dir=folder)["model"] == load_yaml(hypes("late"))["model"]


def test_a_folder_with_only_a_configuration_is_a_first_training(hypes, tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "config.yaml").write_text(hypes("late").read_text())
    assert run_training("None", folder, TrainingOptions(**QUIET)) == folder
    assert (folder / "net_epoch2.pth").is_file()


def test_a_folder_with_only_weights_continues_after_the_best(hypes, tmp_path):
    folder = run_training(hypes("late"), None, TrainingOptions(run_dir=tmp_path / "run", **QUIET))
    (folder / "last.ckpt").unlink()
    for path in folder.glob("net_epoch*.pth"):
        path.rename(folder / "net_epoch1.pth") if "bestval" in path.name else path.unlink()
    run_training(None, folder, TrainingOptions(**QUIET))
    assert {entry["epoch"] for entry in events(folder, "step")} >= {1}
    assert (folder / "net_epoch2.pth").is_file()


def events(folder, kind):
    entries = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == kind]


def test_a_run_folder_is_continued_or_trained_anew(hypes, tmp_path):
    folder = run_training(hypes("late"), None, TrainingOptions(run_dir=tmp_path / "run", **QUIET))
    first = weights(folder, 2)
    other = hypes("late", optimizer={"lr": 0.01})
    run_training(other, None, TrainingOptions(run_dir=folder, **QUIET))
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == 0.01
    assert any(not torch.equal(first[name], value) for name, value in weights(folder, 2).items())


def test_a_checkpoint_of_another_model_is_refused(hypes, tmp_path):
    folder = run_training(hypes("late"), None, TrainingOptions(run_dir=tmp_path / "run", **QUIET))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"]["args"]["pillar_vfe"]["num_filters"] = [16]
    config["model"]["args"]["point_pillar_scatter"]["num_features"] = 16
    config["model"]["args"]["base_bev_backbone"]["inplanes"] = 16
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match="another model"):
        run_training(None, folder, TrainingOptions(**QUIET))


def test_a_contradicting_fusion_method_is_refused_before_training(hypes, tmp_path):
    options = TrainingOptions(run_dir=tmp_path / "run", fusion_method="late", evaluate=True, **QUIET)
    with pytest.raises(ConfigError, match="contradicts"):
        run_training(hypes(), None, options)
    assert not (tmp_path / "run").exists()


def test_a_training_that_cannot_begin_leaves_no_folder(hypes, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'Adam'"):
        run_training(hypes(optimizer={"core_method": "Adm"}), None, TrainingOptions(run_dir=tmp_path / "run", **QUIET))
    assert not (tmp_path / "run").exists()


def test_two_processes_by_the_published_launcher(hypes, tmp_path):
    file = hypes("late")
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.launch",
        "--nproc_per_node=2",
        "--use_env",
        f"--master_port={free_port()}",
    ]
    tool = command("train_ddp", "-y", file, "--no_eval")[1:]
    done = subprocess.run(
        [*launch, *tool], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder = run_folder(tmp_path)
    assert steps_done(folder) == 4 and (folder / "net_epoch2.pth").is_file()


def test_one_frame_is_learned_by_heart(hypes):
    wide = hypes("late", _everywhere_={}, lr_scheduler={"step_size": [10**6]})
    report = run_overfit(wide, None, 1, 300, TrainingOptions(**QUIET))
    assert report.reached, "\n".join(report.lines())
    assert report.ap >= 0.99 and report.boxes > 3


def test_boxes_that_cannot_be_reached_are_listed_with_the_cause(hypes):
    report = run_overfit(hypes("late"), None, 1, 1, TrainingOptions(**QUIET))
    assert not report.reached and report.unreached
    assert all(one.cause for one in report.unreached)
    assert any("boxes are not reached" in line for line in report.lines())


def test_a_limit_of_the_post_processing_is_a_cause(hypes):
    report = run_overfit(hypes("late", postprocess={"max_box_extent": 1.0}), None, 1, 1, TrainingOptions(**QUIET))
    assert len(report.unreached) == report.boxes
    assert all("max_box_extent" in one.cause for one in report.unreached)


def test_a_good_configuration_gives_no_warning(hypes):
    content = load_yaml(hypes("late"))
    assert check_start(content, build_dataset(content, train=True)) == []


def test_boxes_without_an_anchor_are_counted(hypes):
    content = load_yaml(hypes("late"))
    dataset = build_dataset(content, train=True)
    assert check_frame(dataset, 0).unanchored == 0
    sparse = with_anchors(content, feature_stride=16)
    assert any("get no anchor" in warning for warning in check_start(sparse, build_dataset(sparse, train=True)))


def test_frames_without_points_and_ranges_without_boxes_are_named(hypes):
    content = load_yaml(hypes("late"))
    far = [500.0, 500.0, -3, 538.4, 538.4, 1]
    places = {
        "preprocess": {**content["preprocess"], "cav_lidar_range": far},
        "postprocess": {**content["postprocess"], "gt_range": far},
    }
    moved = content.replaced({**content, **places})
    warnings = check_start(moved, build_dataset(moved, train=True))
    assert any("have no input" in warning for warning in warnings)
    buried = with_anchors(content, cav_lidar_range=[*SMALL[:2], -10, *SMALL[3:5], -9])
    warnings = check_start(buried, build_dataset(buried, train=True))
    assert any("gt_range" in warning and "reaches beyond" in warning for warning in warnings)
    assert any("nothing can be learned" in warning for warning in warnings)
    assert any("but not in z" in warning for warning in warnings)


def with_anchors(content, **changes):
    section = content["postprocess"]
    return content.replaced(
        {**content, "postprocess": {**section, "anchor_args": {**section["anchor_args"], **changes}}}
    )


def test_equal_ranges_are_fine():
    section = {"gt_range": SMALL, "anchor_args": {"cav_lidar_range": SMALL}}
    assert list(check_ranges({"postprocess": section, "preprocess": {"cav_lidar_range": np.array(SMALL)}})) == []
