"""Our own fill rule gives the numbers of the reference's."""

import importlib.util

import numpy as np
import pytest
import torch

from tests.golden import locate
from tests.golden.fill import fill_entries, value_of

PARAMS = locate.DEFAULT_GOLDEN / "params.py"


class Mixed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.register_buffer("table", torch.arange(5))
        self.register_buffer("schedule", torch.ones(3))


@pytest.mark.skipif(not PARAMS.exists(), reason="no golden folder")
def test_values_equal_the_shared_rule() -> None:
    spec = importlib.util.spec_from_file_location("golden_params", PARAMS)
    params = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(params)
    shapes = [(), (1,), (7,), (3, 4), (2, 3, 1, 5)]
    leaves = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked", "gamma"]
    for leaf in leaves:
        for shape in shapes:
            ours, theirs = value_of(f"a.0.{leaf}", shape), params.golden_value(f"a.0.{leaf}", shape)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    filled, reference = Mixed(), Mixed()
    fill_entries(filled.state_dict())
    params.fill(reference)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensor, filled.state_dict()[name]), name


def test_kept_and_overridden_entries() -> None:
    module = Mixed()
    fill_entries(module.state_dict(), keep_as_built=["sched*"], overrides={"*.bias": 0.25})
    assert torch.equal(module.schedule, torch.ones(3))
    assert torch.equal(module.table, torch.arange(5))
    assert torch.equal(module.norm.bias, torch.full((4,), 0.25))
    assert module.norm.num_batches_tracked == 0
    assert not torch.equal(module.norm.weight, torch.ones(4))
