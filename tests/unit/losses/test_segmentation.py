"""The loss of maps of the ground against torch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from opencood.errors import ConfigError
from opencood.losses.build import build_loss

ARGS = {"target": "both", "d_weights": 5.0, "s_weights": 2.0, "l_weights": 4.0, "d_coe": 2.0, "s_coe": 0.5}


def loss(**changes):
    return build_loss({"loss": {"core_method": "vanilla_seg_loss", "args": ARGS | changes}})


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    return {
        "static_seg": torch.randn(2, 3, 8, 8, generator=generator),
        "dynamic_seg": torch.randn(2, 2, 8, 8, generator=generator),
    }


@pytest.fixture
def targets():
    generator = torch.Generator().manual_seed(1)
    return {
        "static_bev": torch.randint(0, 3, (2, 8, 8), generator=generator),
        "dynamic_bev": torch.randint(0, 2, (2, 8, 8), generator=generator),
    }


def test_both_terms(outputs, targets):
    total, terms = loss()(outputs, targets)
    static = 0.5 * F.cross_entropy(outputs["static_seg"], targets["static_bev"], torch.tensor([1.0, 2.0, 4.0]))
    dynamic = 2.0 * F.cross_entropy(outputs["dynamic_seg"], targets["dynamic_bev"], torch.tensor([1.0, 5.0]))
    assert total == pytest.approx(float(static + dynamic)) and terms["static_loss"] == pytest.approx(float(static))


def test_one_term_and_another_resolution(outputs, targets):
    total, terms = loss(target="dynamic")(outputs, targets)
    assert set(terms) == {"dynamic_loss", "total_loss"}
    finer = {name: value.repeat_interleave(2, 1).repeat_interleave(2, 2) for name, value in targets.items()}
    assert loss(target="dynamic")(outputs, finer)[0] == pytest.approx(float(total))


def test_what_is_wrong_is_said(outputs, targets):
    with pytest.raises(ConfigError, match="target: 'bot' .* Did you mean 'both'"):
        loss(target="bot")
    with pytest.raises(ConfigError, match="label 'static_bev'.*CameraBevPostprocessor"):
        loss()(outputs, {})
