"""Optimisers by class name, their groups, and what is refused."""

import pytest
import torch

from opencood.errors import ConfigError
from opencood.training.optimizers import OPTIMIZERS, build_optimizer, set_rates
from tests.unit.training.toy import toy_model


def test_arguments_reach_the_class():
    args = {"eps": 1e-10, "weight_decay": 1e-4, "betas": [0.8, 0.9]}
    optimizer = build_optimizer(toy_model(), {"core_method": "Adam", "lr": 0.002, "args": args})
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["eps"], group["weight_decay"], tuple(group["betas"])) == (1e-10, 1e-4, (0.8, 0.9))
    assert group["initial_lr"] == 0.002
    assert len(group["params"]) == len(list(toy_model().parameters()))


def test_codebooks_may_learn_at_another_rate():
    model = torch.nn.ModuleDict({"codebook": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 1)})
    optimizer = build_optimizer(model, {"core_method": "SGD", "lr": 0.1, "codebook_lr_rate": 0.5})
    assert [(len(group["params"]), group["lr"]) for group in optimizer.param_groups] == [(2, 0.1), (2, 0.05)]
    set_rates(optimizer, [1.0, 2.0])
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 2.0]


def test_every_class_that_steps_without_a_closure_is_offered():
    assert {"Adam", "AdamW", "SGD", "RMSprop"} <= OPTIMIZERS.keys()
    assert "LBFGS" not in OPTIMIZERS and "Optimizer" not in OPTIMIZERS


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"core_method": "Adm", "lr": 0.1}, "Did you mean 'Adam'"),
        ({"core_method": "Adam"}, "optimizer.lr: expected a number, found None"),
        ({"core_method": "Adam", "lr": "fast"}, "found 'fast'"),
        ({"core_method": "Adam", "lr": 0.1, "args": {"eps": "1e-10"}}, "eps: expected a number"),
        ({"core_method": "Adam", "lr": 0.1, "args": {"betas": [2, 2]}}, "torch.optim.Adam refuses"),
    ],
)
def test_what_is_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(toy_model(), section)


def test_an_unknown_argument_warns_with_the_nearest_one():
    with pytest.warns(UserWarning, match="weight_decai.*weight_decay"):
        build_optimizer(toy_model(), {"core_method": "Adam", "lr": 0.1, "args": {"weight_decai": 1}})
