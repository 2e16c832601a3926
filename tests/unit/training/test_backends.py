"""Several backends: validation goes through all of them, and balancing follows their losses."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opencood.errors import ConfigError
from opencood.training.backends import START, Backends
from tests.unit.training.toy import ToyDataset, ToyDetector, toy_trainer

torch.set_num_threads(1)


def some(*names):
    return SimpleNamespace(backends=list(names), weights=dict.fromkeys(names, 1.0), target=None)


class Choosing(ToyDetector):
    """Its logits depend on the backend; in train mode one is drawn, as the link of a detector that translates does."""

    def __init__(self, targets):
        super().__init__()
        self.targets, self.used = targets, []

    def forward(self, ego):
        shares = torch.tensor([self.targets.weights[name] for name in self.targets.backends])
        drawn = self.targets.backends[int(torch.multinomial(shares, 1))] if self.training else None
        name = drawn or self.targets.target
        self.used.append((self.training, name))
        outputs = super().forward(ego)
        bias = {"m1": 0.0, "m2": 4.0, "m3": 0.0}[name]
        return outputs | {"cls_preds": outputs["cls_preds"] + bias}


def trained(folder, targets, **settings):
    torch.manual_seed(0)
    model = Choosing(targets)
    trainer = toy_trainer(folder, ToyDataset(4), ToyDataset(2), model, targets=targets, **settings)
    return trainer, model


def validations(folder):
    entries = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == "validation"]


def test_validation_goes_through_all_backends_whatever_was_drawn(tmp_path):
    trainer, model = trained(tmp_path, targets := some("m1", "m2"))
    first = trainer.validate(0)
    assert [name for _, name in model.used] == ["m1", "m2"]
    assert first["m2"] > first["m1"]
    torch.manual_seed(99)
    assert trainer.validate(0) == first
    assert targets.target is None


def test_the_loss_that_decides_is_the_mean_over_backends(tmp_path):
    trained(tmp_path, some("m1", "m2"), epochs=1)[0].fit()
    (entry,) = validations(tmp_path)
    assert entry["loss"] == pytest.approx(sum(entry["backends"].values()) / 2)
    assert "weights" not in entry
    assert "backend m2:" in (tmp_path / "log.log").read_text()


def test_a_backend_with_a_large_loss_is_drawn_more_often(tmp_path):
    targets = some("m1", "m2")
    trained(tmp_path, targets, epochs=3, data_balance=True)[0].fit()
    assert targets.weights == {"m1": START - 3, "m2": START + 3}
    assert [entry["weights"]["m2"] for entry in validations(tmp_path)] == [START + k for k in (1, 2, 3)]


def test_a_resumed_run_goes_on_with_the_weights(tmp_path):
    trained(tmp_path, whole := some("m1", "m2"), epochs=3, data_balance=True)[0].fit()
    trained(tmp_path / "cut", some("m1", "m2"), epochs=1, data_balance=True)[0].fit()
    trainer, _ = trained(tmp_path / "cut", rest := some("m1", "m2"), epochs=3, data_balance=True)
    assert trainer.resume()
    assert rest.weights == {"m1": START - 1, "m2": START + 1}
    trainer.fit()
    assert rest.weights == whole.weights
    assert validations(tmp_path / "cut")[-1]["loss"] == validations(tmp_path)[-1]["loss"]


@given(st.lists(st.floats(0, 10), min_size=2, max_size=4), st.integers(1, 30))
def test_weights_stay_whole_and_positive(losses, rounds):
    names = [f"m{k}" for k in range(len(losses))]
    backends = Backends(some(*names), balanced=True)
    for _ in range(rounds):
        weights = backends.rebalance(dict(zip(names, losses, strict=True)))
    assert all(weight >= 1 and weight == int(weight) for weight in weights.values())
    assert weights[names[losses.index(max(losses))]] >= START


def test_equal_losses_change_nothing():
    backends = Backends(some("m1", "m2", "m3"), balanced=True)
    assert set(backends.rebalance(dict.fromkeys(["m1", "m2", "m3"], 0.1)).values()) == {START}


def test_a_backend_without_samples_counts_as_loss_zero():
    backends = Backends(some("m1", "m2", "m3"), balanced=True)
    assert backends.rebalance({"m1": 3.0, "m2": 1.5}) == {"m1": START + 1, "m2": START, "m3": START - 1}


def test_nothing_to_balance_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train_params\.data_balance.*no backends"):
        toy_trainer(tmp_path, data_balance=True)
