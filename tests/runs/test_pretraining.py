"""Pretraining on a tree without a single label, then detectors that start from it with few labels."""

import json
import shutil

import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.models.checkpoints import find_checkpoint, read_state_dict
from opencood.tools import describe_model, finetune, inference, show_reconstruction, train

pytestmark = pytest.mark.slow
SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]
TINY = {"batch_size": 2, "epoches": 2, "max_train_batches": 2, "max_val_batches": 1, "eval_freq": 1, "save_freq": 1}
QUIET = ["--device", "cpu", "--workers", "0", "--no_eval"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A simulated data set, and its copy whose files hold no list of objects."""
    folder = tmp_path_factory.mktemp("sim")
    simulate(SimulationOptions(out=folder / "labelled", preset="mini", scenarios=(3, 1, 1), seed=5))
    shutil.copytree(folder / "labelled", folder / "unlabelled")
    for file in (folder / "unlabelled").rglob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        if "vehicles" in content:
            del content["vehicles"]
            file.write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def hypes(data, tmp_path, monkeypatch):
    """A function that writes a small variant of a shipped file."""
    monkeypatch.chdir(tmp_path)

    def write(name, tree, **changes):
        splits = {f"{key}_dir": str(data / tree / split) for key, split in SPLITS.items()}
        everywhere = {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL}
        content = {"_base_": str(SHIPPED / "sim" / "coopre" / f"{name}.yaml"), "_everywhere_": everywhere}
        content |= {"name": name, "train_params": TINY, **splits, **changes}
        return str(write_yaml(tmp_path / f"{name}_{tree}.yaml", content))

    return write


SPLITS = {"root": "train", "validate": "validate", "test": "test"}


def last_run(folder):
    return max((folder / "opencood" / "logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def pretrained(hypes, tmp_path, name="coopre", **changes):
    assert train.main(["-y", hypes(name, "unlabelled", **changes), *QUIET]) == 0
    return last_run(tmp_path)


def test_labels_are_not_needed_and_few_labels_go_far(hypes, tmp_path, caplog):
    run = pretrained(hypes, tmp_path)
    journal = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    assert any("Chamfer_loss" in json.dumps(line) for line in journal)
    caplog.set_level("INFO")
    arguments = ["-y", hypes("attfuse", "labelled"), "--pretrained_model_dir", str(run), "--subset", "0.5", *QUIET]
    assert finetune.main(arguments) == 0
    assert "init_from" in caplog.text and "Not from there: shrink_conv, cls_head, reg_head, dir_head." in caplog.text
    tuned = last_run(tmp_path)
    chosen = (tuned / "label_fraction.txt").read_text().splitlines()
    assert len(chosen) == 3 and all(" at " in line for line in chosen)  # of 6
    saved = yaml.safe_load((tuned / "config.yaml").read_text())
    assert saved["init_from"]["path"] == str(run) and saved["train_params"]["label_fraction"] == 0.5


def test_a_training_begins_with_the_pretrained_encoder_and_its_resumption_does_not(hypes, tmp_path):
    run = pretrained(hypes, tmp_path)
    frozen = {
        "optimizer": {"core_method": "SGD", "lr": 0.0, "args": {"_replace_": True}},
        "lr_scheduler": {"_replace_": True, "core_method": "constant"},
    }
    still = {**TINY, "epoches": 1}
    file = hypes("attfuse", "labelled", init_from={"path": str(run)}, train_params=still, **frozen)
    assert finetune.main(["-y", file, *QUIET]) == 0
    tuned = last_run(tmp_path)
    theirs, ours = (read_state_dict(find_checkpoint(folder)[0]) for folder in (run, tuned))
    weights = [key for key in ours if key.startswith(("pillar_vfe.", "backbone.")) and key.endswith("weight")]
    assert weights and all(torch.equal(ours[key], theirs[key]) for key in weights)
    shutil.rmtree(run)  # a run that has begun no longer needs it
    assert train.main(["-y", "None", "--model_dir", str(tuned), *QUIET]) == 0


@pytest.mark.parametrize("name", ["fcooper", "v2xvit", "early", "late"])
def test_every_detector_starts_from_it(hypes, tmp_path, name):
    run = pretrained(hypes, tmp_path)
    file = hypes(name, "labelled", train_params={**TINY, "epoches": 1, "max_train_batches": 1})
    assert finetune.main(["-y", file, "--pretrained_model_dir", str(run), *QUIET]) == 0


def test_second_pretrains_too(hypes, tmp_path):
    once = {"train_params": {**TINY, "batch_size": 1, "epoches": 1, "max_train_batches": 1}}
    run = pretrained(hypes, tmp_path, "second_coopre", **once)
    file = hypes("second_attfuse", "labelled", init_from={"path": str(run), "modules": ["backbone_3d"]}, **once)
    assert finetune.main(["-y", file, *QUIET]) == 0


def test_a_picture_of_what_was_hidden(hypes, tmp_path, capsys):
    run = pretrained(hypes, tmp_path)
    show_reconstruction.main(["--model_dir", str(run), "--reach", "20", "--device", "cpu"])
    assert (run / "reconstruction_0000.png").stat().st_size > 10_000
    assert "hidden cells: predicted points are" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--index: the split has the frames 0 to 1, not 9"):
        show_reconstruction.main(["--model_dir", str(run), "--index", "9"])


def test_what_needs_a_detector_says_so(hypes, tmp_path):
    file = hypes("coopre", "unlabelled")
    with pytest.raises(ConfigError, match="pretrains an encoder.*learn by heart.*finetune.py"):
        train.main(["-y", file, "--overfit", "1", *QUIET])
    with pytest.raises(ConfigError, match="pretrains an encoder.*no stages to describe"):
        describe_model.main(["-y", file])
    (tmp_path / "run").mkdir()
    shutil.copy(file, tmp_path / "run" / "config.yaml")
    with pytest.raises(ConfigError, match="pretrains an encoder.*nothing to test"):
        inference.main(["--model_dir", str(tmp_path / "run"), "--untrained"])


def test_what_cannot_be_started_from(hypes, tmp_path):
    file = hypes("attfuse", "labelled")
    with pytest.raises(ConfigError, match="init_from: missing.*--pretrained_model_dir"):
        finetune.main(["-y", file, *QUIET])
    with pytest.raises(CheckpointError, match=r"holds no latest\.pth and no net_epoch"):
        finetune.main(["-y", file, "--pretrained_model_dir", str(tmp_path), *QUIET])
    assert not any((tmp_path / "opencood" / "logs").iterdir())  # nothing was left behind
