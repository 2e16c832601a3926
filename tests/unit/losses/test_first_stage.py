"""The loss of CIA-SSD and of FPV-RCNN's first stage: what it wants of overlaps and directions, and where it looks."""

import math

import pytest
import torch

from opencood.errors import ConfigError
from opencood.losses.build import build_loss
from opencood.losses.point_pillar import PointPillarLoss

SMOOTH = {"sigma": 3.0, "weight": 2.0}
STAGE = {"pos_cls_weight": 2.0, "cls": {"alpha": 0.25, "gamma": 2.0, "weight": 1.0}, "reg": SMOOTH, "iou": SMOOTH}
ANCHORS = {
    "cav_lidar_range": [-3.2, -3.2, -3, 3.2, 3.2, 1], "l": 4.0, "w": 2.0, "h": 1.5, "r": [0, 90], "num": 2,
    "feature_stride": 2, "vw": 0.8, "vh": 0.8, "W": 8, "H": 8,
}  # fmt: skip


def build(name="ciassd_loss", **more):
    args = STAGE | more
    loss = {"core_method": name, "args": {"stage1": args, "stage2": {}} if name == "fpvrcnn_loss" else args}
    return build_loss({"loss": loss, "postprocess": {"order": "hwl", "anchor_args": ANCHORS}})


def stage(anchor=0, **deltas):
    """Heads of a 4 x 4 map whose deltas at one cell are given, and targets of zero for one anchor of that cell."""
    heads = {
        "box_preds": torch.zeros(1, 14, 4, 4),
        "cls_preds": torch.full((1, 2, 4, 4), -3.0),
        "dir_cls_preds": torch.zeros(1, 4, 4, 4),
        "iou_preds": torch.zeros(1, 2, 4, 4),
    }
    for name, number in deltas.items():
        heads["box_preds"][0, 7 * anchor + "xyzhwlr".index(name), 1, 2] = number
    positive = torch.zeros(1, 4, 4, 2)
    positive[0, 1, 2, anchor] = 1
    targets = {"pos_equal_one": positive, "neg_equal_one": 1 - positive, "targets": torch.zeros(1, 4, 4, 14)}
    return heads, targets


def smooth_l1(difference):
    return abs(difference) - 0.5 / 9 if abs(difference) > 1 / 9 else 4.5 * difference**2


@pytest.mark.parametrize("anchor", [0, 1])
def test_overlaps_are_wanted_as_the_boxes_have_them(anchor):
    diagonal = math.hypot(4, 2)
    along = "yx"[anchor == 0]  # 1 m along the car: 3 of 5 metres are common; 0.5 m up: 1 of 2
    for deltas, iou in (({}, 1.0), ({along: 1 / diagonal}, 3 / 5), ({"z": 0.5 / 1.5}, 0.5)):
        heads, targets = stage(anchor, **deltas)
        heads["iou_preds"][0, anchor, 1, 2] = 0.25
        _, terms = build()({"stage1_out": heads}, targets)
        assert terms["iou_loss"].item() == pytest.approx(2 * smooth_l1(0.25 - (2 * iou - 1)), rel=1e-5)


def test_classes_and_boxes_are_those_of_the_anchor_loss():
    heads, targets = stage(x=0.3, r=0.4)
    _, terms = build()({"preds_dict_stage1": heads}, targets)
    flat = {"cls_preds": heads["cls_preds"], "reg_preds": heads["box_preds"]}
    _, wanted = PointPillarLoss(STAGE["pos_cls_weight"], STAGE["cls"], STAGE["reg"])(flat, targets)
    for name in ("cls_loss", "reg_loss"):
        assert terms[name].item() == pytest.approx(wanted[name].item())
    _, plain = build(encode_rad_error_by_sin=False)({"stage1_out": heads}, targets)
    assert plain["reg_loss"].item() == pytest.approx(2 * (smooth_l1(0.3) + smooth_l1(0.4)), rel=1e-5)


@pytest.mark.parametrize(("yaw", "anchor", "wanted"), [(0.3, 0, 1), (-0.3, 0, 0), (-0.3, 1, 1)])
def test_directions_tell_a_yaw_above_zero(yaw, anchor, wanted):
    heads, targets = stage(anchor)
    targets["targets"][0, 1, 2, 7 * anchor + 6] = yaw
    heads["dir_cls_preds"][0, 2 * anchor + 1, 1, 2] = 4.0  # sure of the second bin
    _, terms = build(dir={"weight": 1.0})({"stage1_out": heads}, targets)
    assert terms["dir_loss"].item() == pytest.approx(math.log(1 + math.exp(-4.0)) + (0 if wanted else 4.0), rel=1e-4)


def test_gradients_reach_every_head_but_the_overlap_is_no_teacher_of_boxes():
    heads, targets = stage(x=0.1)
    for head in heads.values():
        head.requires_grad_()
    loss = build(dir={"weight": 0.2})
    loss({"stage1_out": heads}, targets)[0].backward()
    assert all(head.grad.any() for head in heads.values())
    overlap = loss.parts({"stage1_out": heads}, targets)["iou_loss"].total
    assert torch.autograd.grad(overlap, heads["box_preds"], allow_unused=True) == (None,)


def test_the_first_stage_of_two():
    heads, targets = stage(x=0.1)
    want, _ = build()({"stage1_out": heads}, targets)
    got, _ = build("fpvrcnn_loss")({"stage1_out": heads}, {"stage1": targets, "stage2": {}})
    assert got == want
    with pytest.raises(ConfigError, match="anchor_args: missing"):
        build_loss({"loss": {"core_method": "ciassd_loss", "args": STAGE}})


def test_the_second_stage():
    """By hand: two boxes of which one is an object, overlaps 0.7 and 0.2."""
    heads, targets = stage(x=0.1)
    second = {
        "rcnn_cls": torch.tensor([[0.4], [-1.0]], requires_grad=True),
        "rcnn_iou": torch.tensor([[0.1], [0.9]]),
        "rcnn_reg": torch.full((2, 7), 0.05),
    }
    labels = {"cls": torch.tensor([[1.0], [0.0]]), "iou": torch.tensor([[0.7], [0.2]]), "reg": torch.zeros(2, 7)}
    arguments = {
        "cls": {"weight": 2.0},
        "iou": {"sigma": 3.0, "weight": 1.0},
        "reg": {"sigma": 3.0, "weight": 0.5, "code_weights": [20.0]},
    }
    loss = build_loss(
        {
            "loss": {"core_method": "fpvrcnn_loss", "args": {"stage1": STAGE, "stage2": arguments}},
            "postprocess": {"order": "hwl", "anchor_args": ANCHORS},
        }
    )
    outputs = {"stage1_out": heads, "stage2_out": second, "rcnn_label_dict": labels}
    total, terms = loss(outputs, {"stage1": targets, "stage2": {}})
    first, _ = loss({"stage1_out": heads}, {"stage1": targets, "stage2": {}})
    entropy = (math.log1p(math.exp(-0.4)) + math.log1p(math.exp(-1.0))) / 2 * 2.0
    overlap = (0.3 - 0.5 / 9) / 2  # linear beyond 1 / 9
    distance = 7 * 0.5 * 9 * 0.05**2 * 20 * 0.5
    assert float(terms["rcnn_loss"]) == pytest.approx(entropy + overlap + distance, rel=1e-4)
    assert float(total.detach()) == pytest.approx(float(first.detach()) + entropy + overlap + distance, rel=1e-4)
    total.backward()
    assert second["rcnn_cls"].grad is not None
    del arguments["iou"]
    with pytest.raises(ConfigError, match="loss.args.stage2.iou.weight: missing"):
        build_loss(
            {
                "loss": {"core_method": "fpvrcnn_loss", "args": {"stage1": STAGE, "stage2": arguments}},
                "postprocess": {"order": "hwl", "anchor_args": ANCHORS},
            }
        )(outputs, {"stage1": targets})
