"""Parts that start from another training's checkpoint: what is taken, what is left, what is refused."""

import logging

import pytest
import torch
from model_samples import BASE, PILLARS, RANGE, V2XVIT, hypes
from pretraining_samples import SECOND, voxels, with_targets

from opencood.errors import CheckpointError, ConfigError
from opencood.models.build import build_model
from opencood.models.initial import checkpoint_of, initialise

COUNTS = {"num_class": 3, "anchor_number": 2, "anchor_num": 2}


def built(name, args, parity="fixed", **more):
    return build_model({"flavor": "coopre", "parity": parity, "model": {"core_method": name, "args": args}, **more})


def pretrained(parity="published"):
    """SECOND after a step of pretraining, as its batch norms can tell."""
    torch.manual_seed(0)
    bev = {"preprocess": {"bev_args": {"voxel_size": [0.8, 0.8, 4.0]}}}
    model = built("second_coopre", SECOND, parity, **bev).train()
    model({"processed_lidar": with_targets(voxels())})
    return model


def same(model, content, prefix):
    entries = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
    return bool(entries) and all(torch.equal(value, content[key]) for key, value in entries.items())


@pytest.fixture
def saved(tmp_path):
    content = pretrained().state_dict()
    torch.save(content, tmp_path / "net_epoch3.pth")
    return tmp_path, content


DETECTORS = {"second": {}, "second_intermediate": {}}
SHRINK = {"shrink_header": {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [24], "input_dim": 8}}
STTF = {"sttf": {"voxel_size": [0.1, 0.1, 0.1], "downsample_rate": 8}}
DETECTORS |= {
    "second_fcooper": SHRINK,
    "second_v2xvit": SHRINK | {"transformer": {"encoder": V2XVIT | STTF}},
    "second_baseline": SHRINK | {"fusion_method": "max"},
}


@pytest.mark.parametrize("name", DETECTORS)
def test_the_encoder_comes_and_what_was_never_trained_stays(saved, caplog, name):
    folder, content = saved
    model = built(name, SECOND | COUNTS | DETECTORS[name])
    before = model.state_dict()["backbone_2d.blocks.0.1.weight"].clone()
    caplog.set_level(logging.INFO)
    report = initialise(model, folder)
    assert same(model, content, "backbone_3d.") and not report.missing
    assert torch.equal(model.state_dict()["backbone_2d.blocks.0.1.weight"], before)
    assert {key.split(".")[1] for key in report.unexpected} == {"mask_token", "decoder", "coor_conv", "num_conv"}
    assert "backbone_2d was never run there" in caplog.text
    assert "Not from there: backbone_2d, " in caplog.text and "cls_head, reg_head." in caplog.text


def test_published_transfers_copy_everything_that_fits(saved):
    folder, content = saved
    model = built("second_intermediate", SECOND | COUNTS)
    report = initialise(model, folder, idle_parts=True)
    assert same(model, content, "backbone_3d.") and same(model, content, "backbone_2d.")
    assert len(report.unexpected) == 12  # the token, the decoder and both heads (spec coopre.md 7)


def test_parts_by_name_and_under_other_names(tmp_path):
    args = PILLARS | {"base_bev_backbone": BASE}
    pillars = built("masked_bev_pretrain", args)
    torch.save(pillars.state_dict(), tmp_path / "latest.pth")
    model = build_model(hypes("heter_model_baseline"))
    with pytest.raises(CheckpointError, match="nothing of it fits"):
        initialise(model, tmp_path)
    initialise(model, tmp_path, {"encoder_m1.pillar_vfe": "pillar_vfe", "backbone_m1": "backbone"})
    ours, theirs = model.state_dict(), pillars.state_dict()
    assert torch.equal(
        ours["encoder_m1.pillar_vfe.pfn_layers.0.linear.weight"], theirs["pillar_vfe.pfn_layers.0.linear.weight"]
    )
    assert torch.equal(ours["backbone_m1.blocks.0.1.weight"], theirs["backbone.blocks.0.1.weight"])


def test_what_does_not_fit_is_refused(saved):
    folder, content = saved
    model = built("second", SECOND | COUNTS)
    with pytest.raises(ConfigError, match="the model has no part 'backbone_4d'; it has backbone_3d, backbone_2d"):
        initialise(model, folder, ["backbone_4d"])
    with pytest.raises(CheckpointError, match="has no part 'cls_head'"):
        initialise(model, folder, ["cls_head"])
    with pytest.raises(ConfigError, match="expected names of parts"):
        initialise(model, folder, [])
    with pytest.raises(CheckpointError, match="holds no latest.pth"):
        checkpoint_of(folder.parent)


def test_incomplete_parts_need_to_be_allowed(saved):
    folder, content = saved
    del content["backbone_3d.conv1.0.conv1.weight"]
    torch.save(content, folder / "latest.pth")
    model = built("second", SECOND | COUNTS)
    with pytest.raises(CheckpointError, match=r"1 missing.*strict: false"):
        initialise(model, folder, ["backbone_3d"])
    assert initialise(model, folder, ["backbone_3d"], strict=False).missing == ("backbone_3d.conv1.0.conv1.weight",)


def test_other_shapes_and_broken_weights_are_refused_whatever_strict_says(saved):
    folder, content = saved
    for name, value, message in (
        ("conv1.0.bn1.weight", torch.ones(3), r"file \[3\], model \[16\]"),
        ("conv1.0.bn1.weight", torch.full((16,), torch.nan), "hold NaN"),
    ):
        torch.save({**content, f"backbone_3d.{name}": value}, folder / "latest.pth")
        model = built("second", SECOND | COUNTS)
        with pytest.raises(CheckpointError, match=message):
            initialise(model, folder, ["backbone_3d"], strict=False)


def test_ranges_of_the_samples_agree():
    assert SECOND["lidar_range"] == RANGE
