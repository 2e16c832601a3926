"""A run that was killed ends with the very same weights as one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opencood.errors import CheckpointError
from tests.unit.training.toy import ToyDataset, toy_model, toy_trainer

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]


def run_toy(folder, *arguments, workers=0):
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORKERS": str(workers)}
    command = [sys.executable, "-m", "tests.unit.training.toy", str(folder), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def weights(folder, epoch):
    return torch.load(folder / f"net_epoch{epoch}.pth", weights_only=True)


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def log_without_times(folder):
    entries = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in ("time", "samples_per_second")} for entry in entries]


def test_sigkill_at_several_moments_changes_nothing(tmp_path):
    assert run_toy(tmp_path / "whole", 3).returncode == 0
    for samples in (9, 17):  # in the middle of the first epoch, then, after resuming, in the middle of a later one
        killed = run_toy(tmp_path / "killed", 3, samples)
        assert killed.returncode == -signal.SIGKILL
    resumed = run_toy(tmp_path / "killed", 3)
    assert resumed.returncode == 0, resumed.stderr
    for epoch in (1, 2, 3):
        assert equal(weights(tmp_path / "whole", epoch), weights(tmp_path / "killed", epoch))
    assert log_without_times(tmp_path / "whole") == log_without_times(tmp_path / "killed")
    best = [sorted(path.name for path in (tmp_path / name).glob("*bestval*")) for name in ("whole", "killed")]
    assert best[0] == best[1] and len(best[0]) == 1


@pytest.mark.slow
def test_sigkill_with_loader_workers(tmp_path):
    assert run_toy(tmp_path / "whole", 2, workers=1).returncode == 0
    trainer = toy_trainer(tmp_path / "killed", ToyDataset(), epochs=2, last_every_steps=1, workers=1)
    interrupt_after(trainer, 4)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert run_toy(tmp_path / "killed", 2, workers=1).returncode == 0
    assert equal(weights(tmp_path / "whole", 2), weights(tmp_path / "killed", 2))


def interrupt_after(trainer, steps):
    real, calls = trainer.model.forward, iter(range(steps))

    def interrupted(ego):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(ego)

    trainer.model.forward = interrupted


def test_a_finished_run_stays_as_it_is(tmp_path):
    toy_trainer(tmp_path, epochs=1).fit()
    before = (tmp_path / "net_epoch1.pth").read_bytes()
    trainer = toy_trainer(tmp_path, epochs=1)
    assert trainer.resume()
    assert trainer.fit().epoch == 1
    assert (tmp_path / "net_epoch1.pth").read_bytes() == before


def test_more_epochs_continue_the_same_run(tmp_path):
    toy_trainer(tmp_path / "short", epochs=1).fit()
    longer = toy_trainer(tmp_path / "short", epochs=3)
    longer.resume()
    longer.fit()
    toy_trainer(tmp_path / "long", epochs=3).fit()
    assert equal(weights(tmp_path / "short", 3), weights(tmp_path / "long", 3))


def test_without_last_checkpoint_nothing_is_resumed(tmp_path):
    assert not toy_trainer(tmp_path).resume()


def test_another_order_of_the_data_begins_the_epoch_anew(tmp_path, caplog):
    trainer = toy_trainer(tmp_path, last_every_steps=2)
    interrupt_after(trainer, 3)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    other = toy_trainer(tmp_path, batch_size=4)
    assert other.resume() and other.progress.step == 0
    assert "begins anew" in caplog.text


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    toy_trainer(tmp_path, epochs=1).fit()
    model = toy_model()
    model.cls_head = torch.nn.Conv2d(8, 5, 1)
    with pytest.raises(CheckpointError, match="another model.*cls_head"):
        toy_trainer(tmp_path, model=model).resume()


def test_a_damaged_checkpoint_is_refused_with_the_way_out(tmp_path):
    toy_trainer(tmp_path, epochs=1).fit()
    path = tmp_path / "last.ckpt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged.*Delete it"):
        toy_trainer(tmp_path).resume()


def test_plain_weights_keep_their_best_loss_and_shift_the_schedule_as_published(tmp_path):
    trainer = toy_trainer(tmp_path, epochs=3, published_resume=True)
    trainer.start_after(1)
    assert trainer.rates(1) == pytest.approx([0.001]) and trainer.rates(2) == pytest.approx([0.001])
    fixed = toy_trainer(tmp_path, epochs=3)
    fixed.start_after(1)
    assert fixed.rates(1) == pytest.approx([0.01]) and fixed.rates(2) == pytest.approx([0.001])
    ended = fixed.fit()
    assert "The loaded weights have the validation loss" in (tmp_path / "log.log").read_text()
    assert ended.best_loss is not None
