"""A run that starts from the weights of another: prepared once, and anew when weights or configuration change."""

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.errors import CheckpointError
from opencood.experiments.continued import START, prepare_continued_run, prepare_run
from opencood.experiments.demo import DETECTORS, RENAMES
from opencood.models.build import build_model
from opencood.models.checkpoints import find_checkpoint, load_checkpoint, read_state_dict


@pytest.mark.parametrize("detector", DETECTORS[1:])
def test_the_weights_of_the_single_agent_detector_fit_completely(tmp_path, detector):
    origin, folder = tmp_path / "late", tmp_path / detector
    origin.mkdir()
    torch.save(build_model(load_yaml(SHIPPED / "sim" / "late.yaml")).state_dict(), origin / "net_epoch2.pth")
    hypes = load_yaml(SHIPPED / "sim" / f"{detector}.yaml")
    prepare_continued_run(folder, hypes, origin, RENAMES.get(detector, {}))
    path, epoch = find_checkpoint(folder)
    assert (path.name, epoch) == (START, 0)
    assert load_checkpoint(build_model(hypes), path).complete

    (folder / "last.ckpt").write_text("progress")
    prepare_continued_run(folder, hypes, origin, RENAMES.get(detector, {}))
    assert (folder / "last.ckpt").exists()
    torch.save(build_model(load_yaml(SHIPPED / "sim" / "late.yaml")).state_dict(), origin / "net_epoch3.pth")
    prepare_continued_run(folder, hypes, origin, RENAMES.get(detector, {}))
    assert not (folder / "last.ckpt").exists()


def test_nothing_to_start_from(tmp_path):
    (tmp_path / "late").mkdir()
    with pytest.raises(CheckpointError, match="train it first"):
        prepare_continued_run(tmp_path / "early", load_yaml(SHIPPED / "sim" / "early.yaml"), tmp_path / "late", {})


def test_weights_of_several_runs_are_merged_cut_to_parts_and_renamed(tmp_path):
    first, second, folder = tmp_path / "m2.pth", tmp_path / "base.pth", tmp_path / "run"
    torch.save({"encoder_m2.w": torch.ones(1), "cls_head_m2.w": torch.ones(1), "head.w": torch.ones(1)}, first)
    torch.save({"encoder_m1.w": torch.zeros(1), "head.w": torch.zeros(1)}, second)
    hypes = load_yaml(SHIPPED / "sim" / "late.yaml")
    prepare_run(folder, hypes, "a", [first, second], {"encoder_m2.*": "encoder_m3.*"}, ["encoder_m2", "head"])
    state = read_state_dict(folder / START)
    assert {key: float(value) for key, value in state.items()} == {"encoder_m3.w": 1, "head.w": 0}
    (folder / "last.ckpt").write_text("progress")
    prepare_run(folder, hypes, "a")
    assert (folder / "last.ckpt").exists()
    prepare_run(folder, hypes, "b")
    assert not (folder / "last.ckpt").exists() and not (folder / START).exists()
