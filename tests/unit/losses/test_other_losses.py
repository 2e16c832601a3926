"""Losses of the other heads: values by hand and limits."""

import math

import pytest
import torch

from opencood.errors import ConfigError
from opencood.losses.center_point import CenterPointLoss, gaussian_heat
from opencood.losses.dense import PixorLoss, VoxelNetLoss
from opencood.losses.multi_class import MultiClassLoss
from opencood.losses.uncertainty import PointPillarUncertaintyLoss

torch.set_num_threads(1)
CLS, REG = {"alpha": 0.25, "gamma": 2.0, "weight": 1.0}, {"sigma": 3.0, "weight": 2.0}
ASSIGNER = {
    "cav_lidar_range": [-8, -4, -3, 8, 4, 1], "voxel_size": [0.5, 0.5, 4], "out_size_factor": 2, "max_objs": 5,
    "gaussian_overlap": 0.1, "min_radius": 1,
}  # fmt: skip


def test_pixor_counts_boxes_on_occupied_cells_only():
    label = torch.zeros(1, 7, 2, 2)
    label[0, 0, 0, 0] = 1
    outputs = {"cls": torch.zeros(1, 1, 2, 2), "reg": torch.full((1, 6, 2, 2), 2.0)}
    total, terms = PixorLoss(alpha=2.0, beta=0.5)(outputs, {"label_map": label})
    assert terms["cls_loss"].item() == pytest.approx(math.log(2))
    assert terms["reg_loss"].item() == pytest.approx(6 * 1.5)
    assert total.item() == pytest.approx(2 * math.log(2) + 0.5 * 9)


def test_voxel_net_averages_over_positives_and_negatives_apart():
    flags = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 2, 2)
    targets = {"pos_equal_one": flags, "neg_equal_one": 1 - flags, "targets": torch.zeros(1, 1, 2, 14)}
    outputs = {"psm": torch.zeros(1, 2, 1, 2), "rm": torch.full((1, 14, 1, 2), 2.0)}
    total, terms = VoxelNetLoss(alpha=1.5, beta=1.0, reg=1.0)(outputs, targets)
    assert terms["cls_loss"].item() == pytest.approx(2.5 * math.log(2), rel=1e-4)
    assert terms["reg_loss"].item() == pytest.approx(7 * 1.5, rel=1e-4)
    assert total.item() == pytest.approx(terms["total_loss"].item())


def test_several_classes_by_hand():
    """Two anchors of two classes at one cell: the first is of class 2, the second background; then all is ignored."""
    labels = torch.tensor([[2.0, 0, -1, -1]]).reshape(1, 1, 1, 4)
    targets = {"pos_equal_one": labels, "targets": torch.zeros(1, 1, 1, 28)}
    outputs = {"cls_preds": torch.zeros(1, 8, 1, 1), "reg_preds": torch.full((1, 28, 1, 1), 2.0)}
    outputs["reg_preds"][0, 6::7] = math.pi / 2  # the sine of the difference is one
    total, terms = MultiClassLoss(cls_weight=1.5, reg=2.0, num_class=2)(outputs, targets)
    positive, negative = (weight * 0.25 * math.log(2) for weight in (0.25, 0.75))
    assert terms["conf_loss"].item() == pytest.approx(1.5 * (positive + 3 * negative))
    distance = 6 * (2 - 1 / 18) + (1 - 1 / 18)
    assert terms["reg_loss"].item() == pytest.approx(2 * distance)
    assert total.item() == pytest.approx(terms["total_loss"].item())


def test_several_classes_without_any_object_learn_background():
    targets = {"pos_equal_one": torch.zeros(2, 1, 1, 4), "targets": torch.zeros(2, 1, 1, 28)}
    outputs = {"cls_preds": torch.zeros(2, 8, 1, 1), "reg_preds": torch.ones(2, 28, 1, 1)}
    _, terms = MultiClassLoss(cls_weight=1.0, reg=2.0, num_class=2)(outputs, targets)
    assert terms["reg_loss"].item() == 0
    assert terms["conf_loss"].item() == pytest.approx(8 * 0.75 * 0.25 * math.log(2))


def center_loss(**changes):
    return CenterPointLoss(1.0, 2.0, [1.0] * 8, {**ASSIGNER, **changes})


def boxes(*rows):
    return {"object_bbx_center": torch.tensor([rows]), "object_bbx_mask": torch.ones(1, len(rows))}


def test_center_targets_by_hand():
    targets = center_loss().targets(boxes([0.25, -1.5, -1.0, 2.0, 4.0, 8.0, 0.0]), torch.zeros(1, 1, 8, 16))
    assert (targets.rows.item(), targets.columns.item()) == (2, 8)
    want = [0.25, 0.5, 0.25, 2.0, 4.0, 1.0, 0.0, 1.0]
    assert targets.boxes.flatten().tolist() == pytest.approx(want)
    assert targets.heat[0, 0, 2, 8] == 1 and (targets.heat == 1).sum() == 1


def test_objects_outside_the_map_are_dropped():
    targets = center_loss().targets(
        boxes([50.0, 0, 0, 2, 2, 2, 0], [-7.9, -3.9, 0, 2, 2, 2, 0]), torch.zeros(1, 1, 8, 16)
    )
    assert targets.valid.tolist() == [[False, True]]
    assert (targets.heat == 1).sum() == 1


def test_the_heat_is_cut_to_a_square_and_the_larger_one_counts():
    cells = torch.tensor([[[3.0, 3.0], [5.0, 3.0]]])
    heat = gaussian_heat(cells, torch.tensor([[2.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool), 7, 9)[0]
    near = math.exp(-1 / (2 * (5 / 6) ** 2))
    assert heat[3, 4].item() == pytest.approx(near) and heat[3, 2].item() == pytest.approx(near)
    assert heat[6].abs().max() == 0 and heat[3, 0] == 0


def test_a_perfect_center_head_has_almost_no_loss():
    truth = boxes([0.25, -1.5, -1.0, 2.0, 4.0, 8.0, 0.3])
    targets = center_loss().targets(truth, torch.zeros(1, 1, 8, 16))
    maps = torch.zeros(1, 8, 8, 16)
    maps[0, :, 2, 8] = targets.boxes[0, 0]
    logits = torch.where(targets.heat == 1, 9.0, -9.0)
    total, _ = center_loss()({"cls_preds": logits, "bbox_preds": maps}, truth)
    assert total.item() == pytest.approx(0.0, abs=1e-5)


def uncertainty_loss(**section):
    return PointPillarUncertaintyLoss(2.0, CLS, REG, {"dim": 3, "weight": 1.0, **section})


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_likelihood_by_hand(kind):
    loss = uncertainty_loss(xy_loss_type=kind, angle_loss_type=kind, angle_weight=0.5)
    got = loss.likelihood(torch.full((1, 1, 3), 2.0), torch.full((1, 1, 3), math.log(4.0)))
    one = 0.5 * ((2.0 if kind == "l1" else 4.0) / 4 + math.log(4.0))
    assert got.flatten().tolist() == pytest.approx([one, one, one / 2])


def test_von_mises_does_not_overflow_and_agrees_with_the_formula():
    loss = uncertainty_loss(angle_loss_type="von-mise", lambda_V=0.1, s0=1.0)
    turn, spread = torch.tensor([[[0.4]]]), torch.tensor([[[0.7]]])
    k = torch.exp(-spread)
    want = torch.log(torch.special.i0(k)) - k * torch.cos(turn) + 0.1 * (torch.exp(spread - 1.0) - 1)
    assert loss._von_mises(turn, spread).item() == pytest.approx(want.item(), rel=1e-5)
    assert torch.isfinite(loss._von_mises(turn, torch.tensor([[[-12.0]]])))


def test_a_target_that_is_not_a_number_teaches_nothing():
    flags = torch.tensor([1.0, 0]).reshape(1, 1, 1, 2)
    outputs = {
        "cls_preds": torch.zeros(1, 2, 1, 1),
        "reg_preds": torch.ones(1, 14, 1, 1),
        "unc_preds": torch.zeros(1, 6, 1, 1),
    }
    targets = {"pos_equal_one": flags, "neg_equal_one": 1 - flags, "targets": torch.full((1, 1, 1, 14), float("nan"))}
    assert uncertainty_loss().parts(outputs, targets)["unc_loss"].total == 0


def test_what_is_refused():
    with pytest.raises(ConfigError, match="dim: 4 is none of"):
        uncertainty_loss(dim=4)
    with pytest.raises(ConfigError, match="Did you mean 'von-mise'"):
        uncertainty_loss(angle_loss_type="von_mises")
