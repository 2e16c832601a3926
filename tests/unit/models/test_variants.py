"""Detectors with other sensors or heads: PIXOR, CenterPoint, uncertainty."""

import math

import model_samples as samples
import pytest
import torch

from opencood.errors import ConfigError
from opencood.models.build import build_model
from opencood.models.heads.center import CenterDecoder
from opencood.models.scene import SceneFeatures


def model(name, args):
    return build_model({"model": {"core_method": name, "args": args}, "flavor": "heal", "parity": "fixed"})


def pixor(**changes):
    return model("pixor", {"geometry_param": {"input_shape": [32, 32, 4]}} | changes)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (36, 20), (28, 44)])
@torch.no_grad()
def test_pixor_gives_a_quarter_whatever_the_size(height, width):
    outputs = pixor().eval()({"processed_lidar": {"bev_input": torch.rand(2, 4, height, width)}})
    assert outputs["cls"].shape == (2, 1, height // 4, width // 4)
    assert outputs["reg"].shape == (2, 6, height // 4, width // 4)


def test_pixor_without_norms_has_biases_instead():
    names = set(pixor(use_bn=False).state_dict())
    assert {"backbone.conv1.bias", "backbone.block3.1.conv2.bias", "header.conv4.bias"} <= names
    assert not any(".bn" in name for name in names)


def test_pixor_needs_its_geometry():
    with pytest.raises(ConfigError, match="load_bev_params"):
        model("pixor", {"use_bn": True})


def test_center_box_by_hand():
    decoder = CenterDecoder([0.4, 0.8, 4.0], [-10, -20, -3, 10, 20, 1], 2)
    raw = torch.zeros(1, 8, 3, 5)
    raw[0, :, 2, 4] = torch.tensor([0.25, 0.5, 0.125, 2.0, 5.0, 0.25, 1.0, -1.0])
    outputs = decoder({"bbox_preds": raw, "cls_preds": raw[:, :1]}, SceneFeatures((), (1,)))
    assert set(outputs) == {"bbox_preds", "cls_preds", "reg_preds"}
    box = outputs["reg_preds"][0, 2 * 5 + 4]
    expected = [-10 + 4.25 * 0.8, -20 + 2.5 * 1.6, -3 + 0.125 * 8, 1.6, 8.0, 2.0, 3 * math.pi / 4]
    torch.testing.assert_close(box, torch.tensor(expected))


def test_center_box_with_exponential_sizes():
    decoder = CenterDecoder([0.4, 0.8, 4.0], [-10, -20, -3, 10, 20, 1], 2, exponential=True)
    raw = torch.zeros(1, 8, 3, 5)
    raw[0, :, 2, 4] = torch.tensor([0.25, 0.5, -1.125, 0.7, 0.5, 0.25, 0.0, 1.0])
    box = decoder.boxes(raw)[0, 2, 4]
    expected = [-10 + 4.25 * 0.8, -20 + 2.5 * 1.6, -1.125, math.exp(0.7), math.exp(0.5), math.exp(0.25), 0.0]
    torch.testing.assert_close(box, torch.tensor(expected))


CENTER_DETECTORS = [name for name in samples.MODELS if name.startswith("center_point")]


@pytest.mark.parametrize("name", CENTER_DETECTORS)
def test_center_detectors_train(name):
    detector = build_model(samples.hypes(name))
    data = samples.batch(name)
    outputs = detector(data)
    scenes = len(data.get("record_len", range(5)))
    assert outputs["cls_preds"].shape == (scenes, 1, 16, 16)
    assert outputs["bbox_preds"].shape == (scenes, 8, 16, 16)
    assert outputs["reg_preds"].shape == (scenes, 256, 7)
    (outputs["cls_preds"].square().mean() + outputs["bbox_preds"].square().mean()).backward()
    assert detector.cls_head.weight.grad is not None
    assert detector.reg_head.weight.grad is not None
    assert not any("box_decoder" in key for key in detector.state_dict())
    torch.testing.assert_close(detector.cls_head.bias, torch.full((1,), -math.log(99.0)))


def test_a_center_cell_holds_one_box():
    with pytest.raises(ConfigError, match="one box per cell"):
        build_model(samples.hypes("center_point", anchor_number=2))


def test_uncertainty_of_every_anchor():
    outputs = build_model(samples.hypes("point_pillar_uncertainty"))(samples.batch("point_pillar_uncertainty"))
    assert outputs["unc_preds"].shape == (5, 6, 16, 16)
    assert {"cls_preds", "reg_preds", "dir_preds"} < set(outputs)
