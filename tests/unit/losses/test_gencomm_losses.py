"""Losses of GenComm and of the baselines beside it: values by hand and limits."""

import math

import pytest
import torch

from opencood.errors import ConfigError
from opencood.losses.adapters import AdapterLoss, ContrastiveLoss
from opencood.losses.build import build_loss
from opencood.losses.gencomm import (
    MultiClassCodebookLoss,
    MultiClassGenCommLoss,
    MultiClassMpdaLoss,
    PointPillarMpdaLoss,
)

CLASSES = {"cls_weight": 1.0, "reg": 2.0, "num_class": 2}
ANCHOR = {
    "pos_cls_weight": 2.0,
    "cls": {"alpha": 0.25, "gamma": 2.0, "weight": 1.0},
    "reg": {"sigma": 3.0, "weight": 2.0},
}


def multi_class_sample():
    targets = {"pos_equal_one": torch.zeros(1, 1, 1, 4), "targets": torch.zeros(1, 1, 1, 28)}
    return {"cls_preds": torch.zeros(1, 8, 1, 1), "reg_preds": torch.zeros(1, 28, 1, 1)}, targets


def anchor_sample(scenes=2):
    flags = torch.zeros(scenes, 1, 1, 2)
    targets = {"pos_equal_one": flags, "neg_equal_one": 1 - flags, "targets": torch.zeros(scenes, 1, 1, 14)}
    return {"cls_preds": torch.zeros(scenes, 2, 1, 1), "reg_preds": torch.zeros(scenes, 14, 1, 1)}, targets


def test_generated_features_are_pulled_from_both_sides():
    outputs, targets = multi_class_sample()
    own, generated = (torch.full((2, 3, 1, 1), value, requires_grad=True) for value in (1.0, 3.0))
    features = {"gt_feature": own, "pred_feature": generated}
    loss, terms = MultiClassGenCommLoss(**CLASSES, generate_weight=0.5)(outputs | features, targets)
    assert terms["generate_loss"].item() == terms["gen_loss"].item() == pytest.approx(2.0)
    assert loss.item() == pytest.approx(terms["conf_loss"].item() + 2.0)
    loss.backward()
    assert torch.allclose(own.grad, -generated.grad) and own.grad.abs().sum() > 0


def test_agents_by_themselves_generate_nothing():
    outputs, targets = multi_class_sample()
    single = {f"{name}_single": value for name, value in outputs.items()}
    _, terms = MultiClassGenCommLoss(**CLASSES, generate_weight=1.0)(single, targets, "_single")
    assert "generate_loss" not in terms


def test_the_codebook_adds_its_own_loss():
    outputs, targets = multi_class_sample()
    loss, terms = MultiClassCodebookLoss(**CLASSES)(outputs | {"codebook_loss": torch.tensor(0.7)}, targets)
    assert terms["codebook_loss"].item() == pytest.approx(0.7)
    assert loss.item() == pytest.approx(terms["conf_loss"].item() + 0.7)


@pytest.mark.parametrize(
    ("make", "sample"), [(PointPillarMpdaLoss, anchor_sample), (MultiClassMpdaLoss, multi_class_sample)]
)
def test_domains_count_twice_and_only_in_training(make, sample):
    outputs, targets = sample()
    args = ANCHOR if make is PointPillarMpdaLoss else CLASSES
    logits = torch.tensor([2.0, -1.0, -1.0]).view(3, 1, 1, 1)
    outputs |= {"da_feature": logits, "record_len": torch.tensor([3])}
    plain, _ = make(**args)(outputs, targets)
    loss, terms = make(**args, da=True)(outputs, targets)
    entropy = (math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(-1))) / 3  # the first is the ego
    assert terms["da_loss"].item() == pytest.approx(entropy)
    assert loss.item() == pytest.approx(plain.item() + 2 * entropy)
    with torch.no_grad():
        assert make(**args, da=True)(outputs, targets)[0].item() == pytest.approx(plain.item())


def test_adapter_terms_are_reported_without_their_weights():
    values = {"FM": 0.0, "FP2M": 1.0, "FM2P2M": 2.0, "FP": 0.0, "FM2P": 3.0}
    levels = {name: torch.full((1, 2, 2, 2), value) for name, value in values.items()}
    loss, terms = AdapterLoss(9.0, 1.0, 10.0)(levels, {})
    assert {name: terms[name].item() for name in ("P2M", "M2P2M", "M2P")} == {"P2M": 1.0, "M2P2M": 4.0, "M2P": 9.0}
    assert loss.item() == terms["total_loss"].item() == 9 + 4 + 90


def contrast_sample(scenes=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    regions = torch.zeros(scenes, 3, 4, 4, dtype=torch.bool)
    regions[:, 0, :2, :2], regions[:, 1, 2:, 2:] = True, True
    maps = {name: torch.randn(scenes, 5, 4, 4, generator=generator) for name in ("features_q", "features_k")}
    return maps, {"pos_region_ranges": regions}


def test_objects_of_all_scenes_are_told_apart():
    maps, targets = contrast_sample()
    loss, terms = ContrastiveLoss(tau=0.2, max_voxel=9)(maps, targets)
    regions = targets["pos_region_ranges"]
    means = [
        torch.stack([maps[name][b][:, regions[b, k]].mean(dim=1) for b in range(2) for k in range(2)])
        for name in ("features_k", "features_q")
    ]
    similarity = torch.cosine_similarity(means[0][:, None], means[1][None], dim=-1)
    wanted = torch.nn.functional.cross_entropy(similarity / 0.2, torch.arange(4))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert terms["pos_cos_sim"].item() == pytest.approx(similarity.diagonal().mean().item(), rel=1e-4)


def test_large_objects_are_sampled():
    maps, targets = contrast_sample(scenes=1)
    losses = set()
    for seed in range(4):
        torch.manual_seed(seed)
        losses.add(round(ContrastiveLoss(tau=0.2, max_voxel=1)(maps, targets)[0].item(), 6))
    assert len(losses) > 1


def test_without_objects_there_is_no_contrast():
    maps, targets = contrast_sample()
    loss, _ = ContrastiveLoss(tau=0.2, max_voxel=1)(maps, {"pos_region_ranges": targets["pos_region_ranges"] & False})
    assert loss.item() == 0.0


@pytest.mark.parametrize("name", ["point_pillar_gmatch_loss", "point_pillar_diffcomm_message_loss"])
def test_losses_without_a_model_are_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' cannot be used.*point_pillar_gencomm_loss"):
        build_loss({"loss": {"core_method": name, "args": {"generate_weight": 1}}})


def test_stamp_files_have_a_loss_per_type():
    by_type = {m: {"core_method": "point_pillar_loss", "args": ANCHOR} for m in ("m0", "m1")}
    by_type["m1"]["args"] = ANCHOR | {"pos_cls_weight": 5.0}
    adapter = {"core_method": "adapter_loss", "args": {"alpha_P2M": 9.0, "alpha_M2P2M": 1.0, "alpha_M2P": 10.0}}
    model = {"core_method": "heter_model_baseline_w_stamp", "args": {"ego_modality": "m1"}}
    hypes = {"loss": by_type, "loss_adapter": adapter, "model": model}
    assert isinstance(build_loss(hypes), AdapterLoss)
    model["core_method"] = "heter_model_baseline_w_stamp_infer"
    assert build_loss(hypes).pos_cls_weight == 5.0
    with pytest.raises(ConfigError, match=r"loss\.core_method: missing"):
        build_loss({"loss": by_type, "model": {"args": {"ego_modality": "m3"}}})
