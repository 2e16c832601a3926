"""The anchor losses: values by hand, parts that add up, and what is refused."""

import math

import pytest
import torch

from opencood.errors import ConfigError
from opencood.losses.build import build_loss, build_loss_section
from opencood.losses.parts import Part, combine
from opencood.losses.point_pillar import PointPillarDepthLoss, PointPillarLoss, PointPillarPyramidLoss

torch.set_num_threads(1)
CLS, REG = {"alpha": 0.25, "gamma": 2.0, "weight": 1.0}, {"sigma": 3.0, "weight": 2.0}
DIR = {"weight": 0.2, "args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]}}
PYRAMID = {"relative_downsample": [1, 2], "weight": [0.4, 0.2]}


def outputs_and_targets(batch=3, height=4, width=6, seed=0, suffix=""):
    generator = torch.Generator().manual_seed(seed)
    heads = {"cls_preds": 2, "reg_preds": 14, "dir_preds": 4}
    outputs = {name + suffix: torch.randn(batch, n, height, width, generator=generator) for name, n in heads.items()}
    positive = (torch.rand(batch, height, width, 2, generator=generator) < 0.2).double()
    targets = {
        "pos_equal_one": positive,
        "neg_equal_one": 1 - positive,
        "targets": torch.randn(batch, height, width, 14, generator=generator).double(),
    }
    return outputs, targets


def single_cell(logit, positive, residual=0.0):
    """One cell with two anchors, of which only the first counts."""
    outputs = {"cls_preds": torch.tensor([logit, 0.0]).reshape(1, 2, 1, 1), "reg_preds": torch.zeros(1, 14, 1, 1)}
    outputs["reg_preds"][0, 0] = residual
    flags = torch.tensor([positive, 0.0]).reshape(1, 1, 1, 2)
    negative = torch.tensor([1 - positive, 0.0]).reshape(1, 1, 1, 2)
    return outputs, {"pos_equal_one": flags, "neg_equal_one": negative, "targets": torch.zeros(1, 1, 1, 14)}


@pytest.mark.parametrize(("positive", "alpha", "weight"), [(1.0, 0.25, 2.0), (0.0, 0.75, 1.0)])
def test_classification_by_hand(positive, alpha, weight):
    logit = 0.3
    p = 1 / (1 + math.exp(-logit))
    right = p if positive else 1 - p
    _, terms = PointPillarLoss(2.0, CLS, REG)(*single_cell(logit, positive))
    assert terms["cls_loss"].item() == pytest.approx(-weight * alpha * (1 - right) ** 2 * math.log(right), rel=1e-6)


@pytest.mark.parametrize(("residual", "want"), [(0.1, 0.5 * 9 * 0.01), (1.0, 1 - 0.5 / 9)])
def test_regression_by_hand(residual, want):
    _, terms = PointPillarLoss(2.0, CLS, REG)(*single_cell(0.3, 1.0, residual))
    assert terms["reg_loss"].item() == pytest.approx(2.0 * want, rel=1e-5)


def test_gradient_at_a_logit_of_zero_is_that_of_the_formula():
    outputs, targets = single_cell(0.0, 1.0)
    outputs["cls_preds"].requires_grad_()
    PointPillarLoss(1.0, {**CLS, "gamma": 0.0}, REG)(outputs, targets)[0].backward()
    assert outputs["cls_preds"].grad.flatten().tolist() == pytest.approx([0.25 * (0.5 - 1), 0.0])


def test_directions_with_more_than_two_bins():
    section = {"weight": 1.0, "args": {"dir_offset": 0.0, "num_bins": 4, "anchor_yaw": [0, 90]}}
    outputs, targets = single_cell(0.0, 1.0)
    targets["targets"][..., 6] = math.radians(100)  # third quarter minus one: bin 1
    outputs["dir_preds"] = torch.full((1, 8, 1, 1), -20.0)
    outputs["dir_preds"][0, 1] = 20.0
    _, terms = PointPillarLoss(2.0, CLS, REG, section)(outputs, targets)
    assert terms["dir_loss"].item() == pytest.approx(0.0, abs=1e-6)


def test_a_batch_is_the_mean_of_its_samples():
    loss = PointPillarLoss(2.0, CLS, REG, DIR)
    outputs, targets = outputs_and_targets()
    whole, terms = loss(outputs, targets)
    each = [
        loss({k: v[i : i + 1] for k, v in outputs.items()}, {k: v[i : i + 1] for k, v in targets.items()})[0]
        for i in range(3)
    ]
    assert whole.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)
    assert whole.item() == pytest.approx(sum(terms[name].item() for name in ("cls_loss", "reg_loss", "dir_loss")))


def test_parts_of_two_halves_add_up_to_the_whole():
    loss = PointPillarDepthLoss(2.0, CLS, REG, DIR, {"weight": 1.0})
    outputs, targets = outputs_and_targets()
    outputs["depth_items_m2"] = (torch.randn(3, 5, 2, 2), torch.ones(3, 2, 2).long())
    cut = [slice(0, 1), slice(1, 3)]
    halves = []
    for part in cut:
        some = {k: v[part] for k, v in outputs.items() if isinstance(v, torch.Tensor)}
        some["depth_items_m2"] = tuple(item[part] for item in outputs["depth_items_m2"])
        halves.append(loss.parts(some, {k: v[part] for k, v in targets.items()}))
    counts = {key: sum(half[key].count for half in halves) for key in halves[0]}
    together = sum(loss.combine(half, counts)[0] for half in halves)
    assert together.item() == pytest.approx(loss(outputs, targets)[0].item(), rel=1e-6)


def test_suffix_and_older_names_select_other_outputs():
    loss = PointPillarLoss(2.0, CLS, REG, DIR)
    outputs, targets = outputs_and_targets()
    want = loss(outputs, targets)[0]
    single = {f"{name}_single": value for name, value in outputs.items()}
    older = {"psm": outputs["cls_preds"], "rm": outputs["reg_preds"], "dm": outputs["dir_preds"]}
    assert loss(single, targets, "_single")[0] == want
    assert loss(older, targets)[0] == want


def test_without_positives_the_loss_is_finite_and_only_classification():
    outputs, targets = outputs_and_targets()
    targets["pos_equal_one"].zero_()
    _, terms = PointPillarLoss(2.0, CLS, REG, DIR)(outputs, targets)
    assert terms["reg_loss"] == 0 and terms["dir_loss"] == 0 and terms["cls_loss"] > 0


def test_half_precision_outputs_are_summed_in_single():
    outputs, targets = outputs_and_targets()
    total, _ = PointPillarLoss(2.0, CLS, REG, DIR)({k: v.half() for k, v in outputs.items()}, targets)
    assert total.dtype == torch.float32


def test_total_loss_leaves_depth_out_but_the_gradient_does_not():
    outputs, targets = outputs_and_targets()
    logits = torch.randn(2, 5, 2, 2, requires_grad=True)
    outputs["depth_items_m2"] = (logits, torch.ones(2, 2, 2).long())
    total, terms = PointPillarDepthLoss(2.0, CLS, REG, DIR, {"weight": 1.0})(outputs, targets)
    assert total.item() == pytest.approx((terms["total_loss"] + terms["depth_loss"]).item())
    total.backward()
    assert logits.grad.abs().sum() > 0


def test_smoothed_depth_targets_by_hand():
    logits = torch.zeros(1, 4, 1, 1)
    item = (logits, torch.zeros(1, 1, 1).long())
    loss = PointPillarDepthLoss(2.0, CLS, REG, depth={"weight": 1.0, "smooth_target": True})
    focal = -0.25 * 0.75**2 * math.log(0.25)
    assert loss.depth_part("depth_items_m2", item).value().item() == pytest.approx((0.9 + 0.2) * focal)


def test_a_foreground_mask_must_be_there():
    loss = PointPillarDepthLoss(2.0, CLS, REG, depth={"weight": 1.0, "use_fg_mask": True})
    item = (torch.zeros(1, 4, 1, 1), torch.zeros(1, 1, 1).long())
    with pytest.raises(ConfigError, match="use_fg_mask"):
        loss.depth_part("depth_items_m2", item)
    masked = loss.depth_part("depth_items_m2", (*item, torch.ones(1, 1, 1))).value()
    plain = PointPillarDepthLoss(2.0, CLS, REG, depth={"weight": 1.0}).depth_part("depth_items_m2", item).value()
    assert masked.item() == pytest.approx(3.25 * plain.item())


@pytest.mark.parametrize("anchors", [2, 3])
def test_occupancy_of_any_number_of_anchors(anchors):
    loss = PointPillarPyramidLoss(2.0, CLS, REG, PYRAMID)
    positive = torch.zeros(2, 4, 6, anchors)
    positive[:, 0, 0, anchors - 1] = 1
    targets = {"pos_equal_one": positive, "neg_equal_one": 1 - positive}
    maps = [torch.full((2, 1, 4, 6), -9.0), torch.full((2, 1, 2, 3), -9.0)]
    for level in maps:
        level[:, :, 0, 0] = 9.0
    outputs = {"pyramid": "collab", "occ_single_list": maps}
    total, terms = loss(outputs, targets, "_single")
    assert set(terms) == {"pyramid_loss", "total_loss"}
    assert total.item() == pytest.approx(0.0, abs=1e-3)


def test_a_pyramid_of_other_depth_is_refused():
    loss = PointPillarPyramidLoss(2.0, CLS, REG, PYRAMID)
    flags = torch.zeros(1, 4, 6, 2)
    outputs = {"pyramid": "collab", "occ_single_list": [torch.zeros(1, 1, 4, 6)]}
    with pytest.raises(ConfigError, match="2 levels are listed, the model gives 1"):
        loss(outputs, {"pos_equal_one": flags, "neg_equal_one": 1 - flags}, "_single")


def test_what_does_not_fit_is_named():
    outputs, targets = outputs_and_targets()
    loss = PointPillarLoss(2.0, CLS, REG, DIR)
    with pytest.raises(ConfigError, match="needs the output 'dir_preds'"):
        loss({k: v for k, v in outputs.items() if k != "dir_preds"}, targets)
    with pytest.raises(ConfigError, match="feature_stride"):
        loss({**outputs, "cls_preds": outputs["cls_preds"][:, :, :2]}, targets)


def test_build_names_the_nearest_loss_and_the_missing_key():
    with pytest.raises(ConfigError, match="loss.core_method.*Did you mean 'point_pillar_loss'"):
        build_loss({"loss": {"core_method": "point_pilar_loss", "args": {}}})
    with pytest.raises(ConfigError, match="'reg'"):
        build_loss_section({"core_method": "point_pillar_loss", "args": {"pos_cls_weight": 2.0, "cls": CLS}})
    with pytest.raises(ConfigError, match="loss.args.cls.gamma"):
        PointPillarLoss(2.0, {"alpha": 0.25, "weight": 1.0}, REG)
    with pytest.raises(ConfigError, match="loss: the section is missing"):
        build_loss({})


def test_published_keys_that_say_nothing_are_accepted_silently(recwarn):
    args = {"pos_cls_weight": 2.0, "cls": {"type": "X", **CLS}, "reg": {"type": "Y", "codewise": True, **REG}}
    build_loss({"loss": {"core_method": "point_pillar_loss", "args": args}})
    assert not recwarn.list


def test_divisors_have_floors_and_offsets():
    part = Part(torch.tensor(6.0), 0.5, floor=1.0)
    assert part.value() == 6.0 and part.value(3) == 2.0
    assert Part(torch.tensor(6.0), torch.tensor(1.0), offset=1.0).value() == 3.0
    loss, terms = combine({"a/x": Part(torch.tensor(1.0), 1), "a/y": Part(torch.tensor(2.0), 1)})
    assert loss == 3.0 and terms == {"a": 3.0, "total_loss": 3.0}
