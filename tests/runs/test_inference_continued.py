"""A run that starts from the weights of another: prepared once, and anew when weights or configuration change."""

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.errors import CheckpointError
from opencood.experiments.continued import START, prepare_continued_run
from opencood.experiments.demo import DETECTORS, RENAMES
from opencood.models.build import build_model
from opencood.models.checkpoints import find_checkpoint, load_checkpoint


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
