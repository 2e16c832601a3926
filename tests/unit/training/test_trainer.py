"""The loop: order of events, what is skipped, which files appear, what is refused."""

import json

import pytest
import torch

from opencood.errors import ConfigError, OpencoodError
from tests.unit.training.toy import ToyDataset, ToyDetector, toy_loss, toy_model, toy_trainer

torch.set_num_threads(1)


def names(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def steps(folder):
    entries = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == "step"]


def test_files_by_frequency_and_the_final_epoch_always(tmp_path):
    trainer = toy_trainer(tmp_path, epochs=4, save_every=2, validate_every=4)
    trainer.fit()
    best = [name for name in names(tmp_path) if "bestval" in name]
    assert [name for name in names(tmp_path) if name not in best] == [f"net_epoch{n}.pth" for n in (1, 3, 4)]
    assert len(best) == 1 and best[0] in ("net_epoch_bestval_at1.pth", "net_epoch_bestval_at4.pth")
    weights = torch.load(tmp_path / "net_epoch4.pth", weights_only=True)
    assert list(weights) == list(trainer.model.state_dict())
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert not list(tmp_path.glob("*.part"))


def test_the_best_file_is_the_epoch_with_the_lowest_loss(tmp_path):
    toy_trainer(tmp_path, epochs=6).fit()
    entries = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    losses = {entry["epoch"]: entry["loss"] for entry in entries if entry["event"] == "validation"}
    best = min(losses, key=losses.get)
    assert [name for name in names(tmp_path) if "bestval" in name] == [f"net_epoch_bestval_at{best + 1}.pth"]
    assert sorted(losses) == list(range(6))


def test_rates_drop_one_epoch_late(tmp_path):
    toy_trainer(tmp_path, epochs=4).fit()
    rates = {entry["epoch"]: entry["rate"] for entry in steps(tmp_path)}
    assert rates == pytest.approx({0: 0.01, 1: 0.01, 2: 0.001, 3: 0.001})


def test_rates_may_change_with_every_step(tmp_path):
    trainer = toy_trainer(tmp_path, epochs=2, schedule_per_step=True)
    trainer.schedule = lambda base, epoch: base * epoch
    trainer.fit()
    per_epoch = trainer.feed.batches_per_epoch
    rates = [entry["rate"] for entry in steps(tmp_path)]
    assert rates == pytest.approx([0.01 * step / per_epoch for step in range(2 * per_epoch)])


def test_batches_without_objects_and_missing_samples_are_skipped(tmp_path):
    dataset = ToyDataset(6, empty={0, 1, 2}, missing={3})
    trainer = toy_trainer(tmp_path, dataset, epochs=1, batch_size=1)
    trainer.fit()
    assert len(steps(tmp_path)) == 2
    epoch = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()][-2]
    assert epoch["event"] == "epoch" and epoch["skipped_batches"] == 4


def test_the_model_is_told_the_epoch_and_the_batch_is_not_changed(tmp_path):
    model = toy_model()
    trainer = toy_trainer(tmp_path, model=model, epochs=2)
    trainer.fit()
    assert set(model.seen_epochs) == {0, 1}


def test_single_supervision_adds_a_weighted_second_call(tmp_path):
    plain = toy_trainer(tmp_path / "a", ToyDataset(4), model=toy_model(), epochs=1, batch_size=4)
    both = toy_trainer(
        tmp_path / "b",
        ToyDataset(4, supervise_single=True),
        model=toy_model(),
        epochs=1,
        batch_size=4,
        single_weight=0.5,
    )
    plain.fit(), both.fit()
    alone, together = steps(tmp_path / "a")[0], steps(tmp_path / "b")[0]
    assert together["loss"] == pytest.approx(alone["loss"])
    assert together["loss_single"] == pytest.approx(alone["loss"])
    assert together["cls_loss_single"] == pytest.approx(alone["cls_loss"])


def test_model_train_init_is_called_and_its_errors_are_not_hidden(tmp_path):
    class Staged(ToyDetector):
        def model_train_init(self):
            raise RuntimeError("freezing failed")

    with pytest.raises(RuntimeError, match="freezing failed"):
        toy_trainer(tmp_path, model=Staged()).fit()


def test_a_loss_that_is_not_finite_names_the_module_and_keeps_the_weights(tmp_path):
    model = toy_model()
    with torch.no_grad():
        model.cls_head.bias.fill_(float("nan"))
    before = model.reg_head.weight.clone()
    trainer = toy_trainer(tmp_path, model=model, diagnose=lambda model, ego: "cls_head")
    with pytest.raises(OpencoodError, match="cls_loss.*'cls_head'"):
        trainer.fit()
    assert torch.equal(model.reg_head.weight, before)


def test_gradients_are_clipped(tmp_path):
    trainer = toy_trainer(tmp_path, epochs=1, grad_clip=1e-3)
    trainer.fit()
    norms = [parameter.grad.norm() for parameter in trainer.model.parameters() if parameter.grad is not None]
    assert torch.stack(norms).norm() <= 1.001e-3


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_trains_with_full_precision_weights(tmp_path, precision):
    full, half = toy_trainer(tmp_path / "a", epochs=1), toy_trainer(tmp_path / "b", epochs=1, precision=precision)
    full.fit(), half.fit()
    a, b = steps(tmp_path / "a")[0]["loss"], steps(tmp_path / "b")[0]["loss"]
    assert a != b and a == pytest.approx(b, rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())


def test_any_callable_with_the_interface_is_a_loss(tmp_path):
    def loss(outputs, targets, suffix=""):
        total = outputs["cls_preds" + suffix].square().mean()
        return total, {"total_loss": total.detach(), "strange_loss": total.detach()}

    toy_trainer(tmp_path, loss=loss, epochs=1).fit()
    assert "strange_loss" in steps(tmp_path)[0]


def test_a_training_set_smaller_than_a_batch_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="batch_size.*3 samples"):
        toy_trainer(tmp_path, ToyDataset(3), batch_size=4)


def test_an_epoch_can_be_shortened(tmp_path):
    toy_trainer(tmp_path, epochs=2, max_train_batches=2, max_val_batches=1).fit()
    assert [(entry["epoch"], entry["step"]) for entry in steps(tmp_path)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_published_line(tmp_path, capsys):
    toy_trainer(tmp_path, epochs=1, print_every=1, max_train_batches=1).fit()
    lines = (tmp_path / "log.log").read_text().splitlines()
    entry = steps(tmp_path)[0]
    wanted = (
        f"[epoch 0][1/1] || Loss: {entry['loss']:.4f} || Conf Loss: {entry['cls_loss']:.4f} || "
        f"Loc Loss: {entry['reg_loss']:.4f} || Dir Loss: {entry['dir_loss']:.4f} || IoU Loss: 0.0000"
    )
    assert wanted in lines and wanted in capsys.readouterr().out
    assert any(line.startswith("At epoch 0, the validation loss is ") for line in lines)


def test_twenty_steps_lower_the_loss(tmp_path):
    toy_trainer(tmp_path, ToyDataset(2), epochs=20, model=toy_model(), loss=toy_loss()).fit()
    losses = [entry["loss"] for entry in steps(tmp_path)]
    assert losses[-1] < losses[0]
