"""Profilers, counters and pictures under their published names, on simulated data at the smallest size."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_from_scratch
from opencood.experiments.shrink import shrink
from opencood.experiments.training import TrainingOptions, run_training

pytestmark = pytest.mark.slow
ADAPTER = SHIPPED / "opv2v" / "task_agnostic" / "local_adapter" / "conv" / "m1" / "config.yaml"
BASE = SHIPPED / "sim" / "HEAL" / "stage1" / "m1_pyramid.yaml"


@pytest.fixture(scope="module")
def run(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a pyramid fusion, trained one step, in a working directory with data."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "dataset").symlink_to(clone / "dataset")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        short = {
            "epoches": 1,
            "batch_size": 2,
            "eval_freq": 1,
            "max_train_batches": 1,
            "max_val_batches": 1,
            "num_workers": 0,
        }
        hypes = shrink(load_yaml(BASE))
        file = write_yaml(folder / "hypes.yaml", {**hypes, "train_params": {**hypes["train_params"], **short}})
        run_training(file, options=TrainingOptions(run_dir=folder / "run", sanity_frames=0))
        adapter = shrink(load_yaml(ADAPTER))
        save_config(
            adapter.replaced({**adapter, "train_params": {**adapter["train_params"], **short}}), folder / "adapter"
        )
        torch.save(build_from_scratch(adapter).state_dict(), folder / "adapter" / "start.pth")
    summary = {f"ap{percent}": [0.9, 0.8, 0.7, 0.6] for percent in (30, 50, 70)}
    write_yaml(folder / "run" / "AP030507.yaml", summary)
    return folder


LINES = [
    ("profiler/params_calc", "-y hypes.yaml --runs 2 --warm_up 1 --input_data batch.pkl", "samples/s"),
    ("profiler/params_calc_fusion_only", "-y hypes.yaml --runs 1", "pyramid_backbone"),
    ("profiler/params_calc_multi", "-y hypes.yaml --half --agents 1 2 --runs 1", "with 1 to 1 agent"),
    ("profiler/traintp_calc", "-y hypes.yaml --runs 2 --warm_up 0", "training step, batch of 2"),
    ("model_cal", "-y None --model_dir run --runs 1", "run/net_epoch"),
    ("cal_param", "run", "encoder_m1"),
    ("compare_ckpt", "run run", "equal"),
    ("check_tf", "run", "tensorboard --logdir run/trans"),
    ("visualize", "scenes -y hypes.yaml --out scenes --limit 2", "scenes/scene_00000.png"),
    ("visualize", "scenes -y hypes.yaml --out alone --limit 1 --agents 1", "alone/scene_00000.png"),
    ("visualize", "trajectories -y hypes.yaml --out ways --limit 1", "ways/ways_000.png"),
    ("visualize", "noise run/AP030507.yaml --out noise.png", "noise.png"),
    ("visualize", "training run --out training.png", "training.png"),
    ("visualize", "weights --model_dir run --out weights --limit 1", "weights/weights_00000.png"),
    ("visualize", "features --model_dir run --limit 1", "CKA"),
    ("visualize", "sequence scenes film.gif", "film.gif"),
    ("inference_w_delay", "--model_dir run --limit 1 --workers 0 --save_vis_interval 0", "500"),
    ("train_gmatch", "-y hypes.yaml --no_eval", "Training finished"),
    ("train_stamp", "-y None --model_dir adapter --flop_count", "Training finished: adapter"),
    ("inference", "--model_dir run --show_sequence --limit 1 --workers 0", "AP@0.5"),
]


@pytest.mark.parametrize(("tool", "line", "told"), LINES, ids=[f"{tool} {line.split()[0]}" for tool, line, _ in LINES])
def test_runs(tool: str, line: str, told: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(run)
    if "sequence scenes" in line and not Path("scenes").is_dir():
        picture = Image.new("RGB", (8, 8))
        Path("scenes").mkdir()
        picture.save("scenes/scene_0.png")
    import_module(f"opencood.tools.{tool.replace('/', '.')}").main(line.split())
    out = capsys.readouterr().out
    assert told in out, out
    for file in [word for word in out.split() if word.endswith((".png", ".gif"))]:
        with Image.open(file) as picture:
            assert min(picture.size) > 0


def test_curves_come_back_from_the_printed_lines(run: Path, tmp_path: Path) -> None:
    from opencood.experiments.log_curves import points_of

    shutil.copy(run / "run" / "log.log", tmp_path)
    points = list(points_of((tmp_path / "log.log").read_text().splitlines()))
    tags = {tag for tag, _, _ in points}
    assert {"Total_loss", "Confidence_loss", "Regression_loss", "Validate_Loss"} <= tags
    assert list(points_of(["[epoch 2][3/10]_single || Loss: 1.5 || Loc Loss: 0.25"])) == [
        ("Total_loss_single", 1.5, 22), ("Regression_loss_single", 0.25, 22)
    ]  # fmt: skip
