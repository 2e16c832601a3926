"""What is frozen stays frozen, whoever calls train()."""

import pytest
import torch
from model_samples import batch, hypes
from torch import nn

from opencood.models.build import build_model

COMPRESSOR = {"compressor": {"input_dim": 16, "compress_ratio": 4}}


def trainable(model):
    return {name for name, top in model.named_children() if any(p.requires_grad for p in top.parameters())}


def moving(model):
    """Top-level parts whose batch statistics change in a training step."""
    model.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(batch(model.assembly.name))
    changed = (n for n, b in model.named_buffers() if n.endswith("running_mean") and not torch.equal(b, before[n]))
    return {name.split(".")[0] for name in changed}


def test_compressor_training_freezes_everything_else():
    model = build_model(hypes("heter_pyramid_collab", **COMPRESSOR))
    assert trainable(model) == {"compressor"}
    assert moving(model) == {"compressor"}
    model.train().eval().train()
    assert trainable(model) == {"compressor"} and model.compressor.training and not model.encoder_m1.training


@pytest.mark.parametrize("fix_encoder", [False, True])
def test_backward_alignment_trains_what_is_before_the_collaboration(fix_encoder):
    model = build_model(hypes("heter_pyramid_single", fix_encoder=fix_encoder))
    before = set() if fix_encoder else {"encoder_m1", "backbone_m1"}
    assert trainable(model) == {"aligner_m1"} | before
    assert moving(model) == before
    # only batch norms are still: dropout of a frozen part stays active, as published
    assert model.pyramid_backbone.training
    norms = [m for m in model.pyramid_backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


def test_a_fixed_backbone_keeps_its_statistics_moving():
    model = build_model(hypes("point_pillar_baseline", backbone_fix=True))
    assert trainable(model) == {"dir_head"}
    assert "backbone" in moving(model)


def test_nothing_is_frozen_by_default():
    model = build_model(hypes("heter_pyramid_collab"))
    assert all(p.requires_grad for p in model.parameters())
    assert model.train().training and not model.eval().training
