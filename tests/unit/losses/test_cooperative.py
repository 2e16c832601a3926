"""Losses of OpenCOOD and its relatives: who counts, which classes, correspondences, trust and poses, domains."""

import math

import pytest
import torch

from opencood.losses.build import build_loss
from opencood.losses.cooperative import MashLoss, RobustLoss
from opencood.losses.domain_adaptation import DomainAdaptation

SHAPE = (2, 3, 4)  # samples, rows, columns


def loss_of(flavor="opencood", **args):
    section = {"core_method": "point_pillar_loss", "args": {"cls_weight": 1.0, "reg": 2.0} | args}
    return build_loss({"loss": section, "flavor": flavor, "parity": "published"})


def sample(classes=1, anchors=2):
    batch, rows, columns = SHAPE
    labels = torch.zeros(batch, rows, columns, anchors)
    labels[0, 1, 2, 0] = classes
    outputs = {
        "psm": torch.randn(batch, anchors * classes, rows, columns),
        "rm": torch.randn(batch, 7 * anchors, rows, columns),
    }
    targets = {"pos_equal_one": labels, "neg_equal_one": torch.zeros_like(labels)}
    targets["neg_equal_one"][0, 0] = 1
    return outputs, targets | {"targets": torch.zeros(batch, rows, columns, 7 * anchors)}


def test_all_that_is_not_positive_is_negative_but_in_v2v4real():
    outputs, targets = sample()
    everywhere, marked = (loss_of(flavor)(outputs, targets)[1]["conf_loss"] for flavor in ("opencood", "v2v4real"))
    targets["neg_equal_one"] = 1 - targets["pos_equal_one"]
    assert marked < everywhere
    assert torch.allclose(loss_of("v2v4real")(outputs, targets)[1]["conf_loss"], everywhere)


def test_labels_below_zero_do_not_count():
    outputs, targets = sample(classes=3)
    criterion = loss_of("v2xreal", num_class=3)
    counted = criterion(outputs, targets)[1]["conf_loss"]
    targets["pos_equal_one"][1] = -1
    assert criterion(outputs, targets)[1]["conf_loss"] < counted


def test_the_right_class_is_wanted():
    outputs, targets = sample(classes=3)
    criterion = loss_of("v2xreal", num_class=3)
    right, wrong = outputs["psm"].clone(), outputs["psm"].clone()
    right[0, :3, 1, 2] = torch.tensor([-9.0, -9.0, 9.0])
    wrong[0, :3, 1, 2] = torch.tensor([9.0, -9.0, -9.0])
    right, wrong = (criterion({**outputs, "psm": logits}, targets)[0] for logits in (right, wrong))
    assert right < wrong


def test_true_correspondences_follow_the_poses():
    criterion = MashLoss(1.0, 2.0, 1.0, H=4, W=4, downsample_rate=2, voxel_size=[0.5, 0.5, 4])
    pairwise = torch.eye(4).repeat(1, 2, 2, 1, 1)
    cells = torch.arange(16).view(4, 4)
    assert torch.equal(criterion.true_cells(pairwise, torch.tensor([2]))[0], cells)
    pairwise[0, 0, 1, 0, 3] = 1.0  # one cell along x
    moved = criterion.true_cells(pairwise, torch.tensor([2]))[0]
    assert torch.equal(moved[:, :3], cells[:, 1:])
    assert (moved[:, 3] == 16).all()
    assert len(criterion.true_cells(pairwise, torch.tensor([1]))) == 0


def test_nobody_to_correspond_with_costs_nothing():
    outputs, targets = sample()
    criterion = MashLoss(1.0, 2.0, 1.0, H=4, W=4, downsample_rate=2, voxel_size=[0.5, 0.5, 4])
    _, terms = criterion({**outputs, "corr_vol": None}, targets)
    assert set(terms) == {"conf_loss", "reg_loss", "total_loss"}


def test_weak_errors_are_to_be_trusted():
    outputs, targets = sample()
    targets["record_len"] = torch.tensor([2, 1])
    trust = torch.full((2, 3, 3), 0.85)
    said = {**outputs, "stage": 0, "scores": trust, "choice": torch.tensor([[1.0, 1, 0], [0, 0, 0]])}
    criterion = RobustLoss(1.0, 2.0, 0.5, 0.8)
    _, terms = criterion(said, targets)
    entropy = -(0.85 * math.log(0.85) + 0.15 * math.log(0.15))
    assert terms["score_loss"] == pytest.approx(entropy, rel=1e-5)
    _, wrong = criterion({**said, "choice": torch.zeros(2, 3)}, targets)
    assert wrong["score_loss"] > terms["score_loss"]


def test_corrections_are_to_undo_the_error():
    outputs, targets = sample()
    targets["record_len"] = torch.tensor([2, 1])
    wanted = torch.zeros(2, 3, 3, 3)
    wanted[0, 0, 1] = torch.tensor([1.0, 0.0, 2.0])
    said = {"stage": 1, "pairwise_corr": torch.zeros(2, 3, 3, 3), "pose_target": wanted}
    total, terms = RobustLoss(1.0, 2.0, 0.5, 0.8)(said, targets)
    distance = (2 / 3 * (1 - 1 / 18) + 1 / 3 * (2 - 1 / 18)) / 2  # one of two pairs
    assert terms["pose_loss"] == pytest.approx(distance, rel=1e-5)
    assert total == pytest.approx(0.8 * distance, rel=1e-5)
    assert set(RobustLoss(1.0, 2.0, 0.5, 0.8)(outputs, targets)[1]) == {"conf_loss", "reg_loss", "total_loss"}


def test_the_detector_learns_what_the_classifier_of_domains_unlearns():
    adaptation = DomainAdaptation(4, 4, 1.0, 1.0, grl_feature_weight=0.5, grl_instance_weight=1.0).eval()
    features = {f"{name}_feature": torch.randn(1, 4, 2, 4, requires_grad=True) for name in ("source", "target")}
    logits = {"psm": torch.randn(1, 4, 2, 4), "target_psm": torch.randn(1, 4, 2, 4)}
    adaptation({**features, **logits}, {})[0].backward()
    reversed_ = features["source_feature"].grad.clone()
    plain = features["source_feature"].detach().requires_grad_()
    told = adaptation.feature_head(plain)
    torch.nn.functional.binary_cross_entropy_with_logits(told, torch.ones_like(told), reduction="sum").backward()
    assert torch.allclose(reversed_, -0.5 * plain.grad / (2 * told.numel()), atol=1e-6)
