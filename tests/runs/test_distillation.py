"""A student that learns from a teacher on the early-fused cloud: outputs joined, teacher untouched, refusals."""

import json
from pathlib import Path

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_model
from opencood.experiments.distillation import build_teacher
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.training import TrainingOptions, run_training
from opencood.tools import train_w_kd

SMALL = [-19.2, -19.2, -3, 19.2, 19.2, 1]
CPU = torch.device("cpu")


@pytest.fixture
def student(tmp_path, monkeypatch):
    """``student(**changes)`` writes the hypes of a DiscoNet student whose teacher has the weights of early fusion."""
    monkeypatch.chdir(tmp_path)
    base = {
        "_base_": str(SHIPPED / "sim" / "early.yaml"),
        "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL},
    }
    early = load_yaml(write_yaml(tmp_path / "early.yaml", base))
    torch.manual_seed(1)
    (tmp_path / "early").mkdir()
    torch.save(build_model(early).state_dict(), tmp_path / "early" / "net_epoch1.pth")
    args = early["model"]["args"]

    def write(**changes) -> Path:
        return write_yaml(tmp_path / "student.yaml", base | {
            "fusion": {"core_method": "intermediate"},
            "train_params": {"batch_size": 1, "epoches": 1, "max_train_batches": 2, "save_freq": 1, "eval_freq": 1},
            "model": {"core_method": "point_pillar_disconet"},
            "loss": {"core_method": "point_pillar_disconet_loss", "args": {"kd": {"weight": 10.0}}},
            "kd_flag": {"teacher_model": "point_pillar_disconet_teacher", "teacher_model_config": args,
                        "teacher_path": str(tmp_path / "early")},
        } | changes)  # fmt: skip

    return write


def test_the_teacher_is_frozen_and_has_its_weights(student, tmp_path):
    teacher = build_teacher(load_yaml(student()), CPU)
    stored = torch.load(tmp_path / "early" / "net_epoch1.pth")
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(stored[key], value) for key, value in teacher.state_dict().items())


def test_refusals(student, tmp_path):
    hypes = load_yaml(student())
    flag = {**hypes["kd_flag"], "teacher_path": str(tmp_path / "erly")}
    with pytest.raises(CheckpointError, match=r"erly: there is no such folder\. Did you mean '.*early'"):
        build_teacher(hypes.replaced({**hypes, "kd_flag": flag}), CPU)
    assert build_teacher(hypes.replaced({**hypes, "kd_flag": True}), CPU) is None
    with pytest.raises(ConfigError, match="kd_flag: no teacher.*train.py"):
        train_w_kd.main(["-y", str(student(kd_flag=True)), "--device", "cpu"])


@pytest.mark.slow
def test_training_compares_with_the_teacher(student, tmp_path):
    simulate(SimulationOptions(out=tmp_path / "dataset" / "sim", preset="mini", seed=5))
    before = (tmp_path / "early" / "net_epoch1.pth").read_bytes()
    options = TrainingOptions(run_dir=tmp_path / "run", workers=0, device="cpu", distil=True)
    run_dir = run_training(student(), None, options)
    steps = [json.loads(line) for line in (run_dir / "training.jsonl").read_text().splitlines()]
    terms = [step for step in steps if step["event"] == "step"]
    assert len(terms) == 2 and all(step["kd_loss"] > 0 for step in terms)
    assert not any(key.startswith("teacher") for key in torch.load(run_dir / "net_epoch1.pth"))
    assert (tmp_path / "early" / "net_epoch1.pth").read_bytes() == before
