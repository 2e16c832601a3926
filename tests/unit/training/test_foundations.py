"""Settings, the order of the data, files that appear whole, the printed line."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.batch import to_device
from opencood.errors import ConfigError, StorageError
from opencood.training.checkpoints import epoch_file, read_last, save_best, save_weights, write_atomically
from opencood.training.journal import published_line
from opencood.training.order import load, seed_draws, shuffled, training_batches, validation_batches
from opencood.training.settings import settings_from
from tests.unit.training.toy import ToyDataset, toy_model

ROOT = Path(__file__).resolve().parents[3]
REQUIRED = {"batch_size": 2, "epoches": 3, "eval_freq": 1, "save_freq": 1}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 4))
def test_ranks_share_the_batches_of_one_process(length, batch_size, size):
    order = shuffled(length, seed=3, epoch=1)
    ranks = [training_batches(order, batch_size, rank, size) for rank in range(size)]
    joined = [[index for batch in step for index in batch] for step in zip(*ranks, strict=True)]
    assert joined == training_batches(order, batch_size * size)
    used = [index for batch in joined for index in batch]
    assert used == order[: length // (batch_size * size) * batch_size * size]


def test_the_order_is_a_function_of_seed_and_epoch():
    assert shuffled(20, 1, 2) == shuffled(20, 1, 2)
    assert sorted(shuffled(20, 1, 2)) == list(range(20))
    assert shuffled(20, 1, 2) != shuffled(20, 1, 3) != shuffled(20, 2, 3)


def test_validation_keeps_the_last_batch_unless_told():
    assert validation_batches([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3], [4]]
    assert validation_batches([0, 1, 2, 3, 4], 2, drop_last=True) == [[0, 1], [2, 3]]


def test_draws_follow_from_the_key():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_draws(1, 2, 3)
    first = draw()
    seed_draws(1, 2, 4)
    assert draw() != first
    seed_draws(1, 2, 3)
    assert draw() == first


def test_loading_draws_nothing_from_the_global_generator():
    dataset = ToyDataset(4)
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    list(load(dataset, [[0, 1]], dataset.collate_batch_train))
    assert torch.equal(torch.rand(1), want)


def test_missing_samples_are_left_out_and_an_empty_batch_is_none():
    dataset = ToyDataset(4, missing={1, 2, 3})
    batches = list(load(dataset, [[0, 1], [2, 3]], dataset.collate_batch_train))
    assert batches[0]["ego"]["x"].shape[0] == 1 and batches[1] is None


def test_moving_a_batch_keeps_its_form():
    batch = {"a": torch.zeros(1), "b": [torch.zeros(1), "name"], "c": (1, torch.zeros(1))}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"].is_meta and moved["b"][0].is_meta and moved["b"][1] == "name" and moved["c"][1].is_meta
    assert isinstance(moved["c"], tuple) and not batch["a"].is_meta


def test_settings_of_a_configuration():
    read = settings_from({"train_params": {**REQUIRED, "grad_clip": 10, "single_weight": 0.5}, "parity": "fixed"})
    assert (read.epochs, read.batch_size, read.grad_clip, read.single_weight) == (3, 2, 10.0, 0.5)
    assert not read.published_resume and not read.shuffle_validation
    published = settings_from({"train_params": REQUIRED, "parity": "published"}, seed=7, workers=0)
    assert published.published_resume and published.shuffle_validation
    assert (published.seed, published.workers) == (7, 0)
    coopre = settings_from({"train_params": REQUIRED, "parity": "published", "flavor": "coopre"})
    assert coopre.schedule_before_epoch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoches": None}, "train_params.epoches: expected a whole number of at least 1, found None"),
        ({"batch_size": 0}, "train_params.batch_size.*found 0"),
        ({"save_freq": 1.5}, "train_params.save_freq.*found 1.5"),
        ({"grad_clip": -1}, "train_params.grad_clip.*found -1"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings_from({"train_params": {**REQUIRED, **changes}})


def test_a_misspelt_required_key_is_named():
    section = {key: value for key, value in REQUIRED.items() if key != "epoches"} | {"epochs": 3}
    with pytest.raises(ConfigError, match="epoches.*missing.*Did you mean 'epochs'"):
        settings_from({"train_params": section})


def test_only_the_newest_best_file_is_left(tmp_path):
    model = toy_model()
    for epoch in (0, 4, 2):
        save_best(model, tmp_path, epoch)
    assert [path.name for path in tmp_path.iterdir()] == ["net_epoch_bestval_at3.pth"]


def test_weights_are_a_plain_state_dict(tmp_path):
    model = toy_model()
    save_weights(model, epoch_file(tmp_path, 0))
    stored = torch.load(tmp_path / "net_epoch1.pth", weights_only=True)
    assert type(stored) is dict and list(stored) == list(model.state_dict())


def test_a_full_disk_gives_one_error_and_keeps_the_previous_file(tmp_path):
    path = tmp_path / "net_epoch1.pth"
    path.write_bytes(b"previous")
    code = """
import resource, signal, sys
from pathlib import Path
from opencood.errors import StorageError
from opencood.training.checkpoints import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), b"x" * 5000)
except StorageError as error:
    sys.stdout.write(str(error))
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "net_epoch1.pth: could not be written" in done.stdout, done.stderr
    assert path.read_bytes() == b"previous"
    assert os.listdir(tmp_path) == ["net_epoch1.pth"]


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="could not be written"):
        write_atomically(tmp_path / "gone" / "file", b"")


def test_no_last_checkpoint_is_none(tmp_path):
    assert read_last(tmp_path) is None


def test_a_line_without_detections_names_its_own_terms_only():
    line = published_line(0, 1, 2, 1.5, {"Chamfer_loss": 1.25, "total_loss": 1.5})
    assert line == "[epoch 0][1/2] || Loss: 1.5000 || Chamfer Loss: 1.2500"


def test_published_line_with_further_terms():
    terms = {"total_loss": 9.0, "cls_loss": 1.0, "reg_loss": 2.0, "depth_loss": 0.5, "odd_loss": 0.25}
    assert published_line(3, 7, 20, 3.75, terms, "_single") == (
        "[epoch 3][7/20]_single || Loss: 3.7500 || Conf Loss: 1.0000 || Loc Loss: 2.0000 || Dir Loss: 0.0000 || "
        "IoU Loss: 0.0000 || Depth Loss: 0.5000 || odd Loss: 0.2500"
    )


def test_the_environment_caps_a_training(monkeypatch):
    monkeypatch.setenv("OPENCOOD_MAX_EPOCHS", "1")
    monkeypatch.setenv("OPENCOOD_MAX_BATCHES", "5")
    capped = settings_from({"train_params": {**REQUIRED, "max_train_batches": 3}, "parity": "fixed"})
    assert (capped.epochs, capped.max_train_batches, capped.max_val_batches) == (1, 3, 5)
    monkeypatch.setenv("OPENCOOD_MAX_EPOCHS", "none")
    with pytest.raises(ConfigError, match="OPENCOOD_MAX_EPOCHS=none: expected a whole number"):
        settings_from({"train_params": REQUIRED, "parity": "fixed"})
