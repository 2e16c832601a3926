"""SECOND and VoxelNet: their encoders, the detectors made of them, and checkpoints in the older layout."""

import pytest
import torch
from model_samples import HEADS, PILLARS, RANGE, SHRINK

from opencood.errors import ConfigError
from opencood.models.build import build_model
from opencood.models.checkpoints import load_checkpoint, write_state_dict
from opencood.registry import REGISTRY

SMALL = [0.4, 0.4, 0.1]
SECOND = {
    "voxel_size": SMALL,
    "lidar_range": RANGE,
    "mean_vfe": {"num_point_features": 4},
    "spconv": {"num_features_in": 4, "num_features_out": 64},
    "map2bev": {"feature_num": 128},
}
SSFA = SECOND | {"ssfa": {"feature_num": 128}, "anchor_number": 2}
HEAD = {"num_input": 128, "num_pred": 14, "num_cls": 2, "num_iou": 2, "use_dir": True, "num_dir": 4}
OLDER = {"voxel_size": SMALL, "lidar_range": RANGE, "mean_vfe": {"feature_points": 4}, "backbone_3d": []}
BASE = {"layer_nums": [1, 1], "layer_strides": [1, 2], "num_filters": [16, 32]}
BASE |= {"upsample_strides": [1, 2], "num_upsample_filter": [12, 12]}
FEATURES = {"pillar_vfe": {"use_norm": True, "num_filters": [64]}}
MODELS = {
    "second": (OLDER | {"base_bev_backbone": BASE, "anchor_num": 2}, {"psm": 2, "rm": 14}, 4),
    "second_ssfa": (SSFA | {"head": HEAD}, {"cls_preds": 2, "reg_preds": 14, "dir_preds": 4, "iou_preds": 2}, 4),
    "second_ssfa_uncertainty": (
        SSFA | HEADS | {"uncertainty_dim": 2, "shrink_header": SHRINK | {"input_dim": 128}},
        {"cls_preds": 2, "reg_preds": 14, "dir_preds": 4, "unc_preds": 4},
        4,
    ),
    "voxel_net": (
        FEATURES | {"voxel_size": [0.4, 0.4, 0.4], "lidar_range": RANGE, "anchor_num": 2, "N": 2},
        {"psm": 2, "rm": 14},
        16,
    ),
}


def voxels(agents, count=40, cells=(40, 32, 32), seed=0):
    """``count`` distinct voxels of up to three points for each of the named agents."""
    generator = torch.Generator().manual_seed(seed)
    coords = []
    for agent in agents:
        number = torch.randperm(cells[0] * cells[1] * cells[2], generator=generator)[:count]
        coords.append(torch.stack([torch.full_like(number, agent), *torch.unravel_index(number, cells)], dim=1))
    joint = torch.cat(coords).int() if coords else torch.zeros(0, 4, dtype=torch.int32)
    points = torch.randint(1, 4, (len(joint),), generator=generator)
    features = torch.randn(len(joint), 3, 4, generator=generator) * (torch.arange(3) < points[:, None])[..., None]
    return {"voxel_features": features, "voxel_coords": joint, "voxel_num_points": points.int()}


def second(**changes):
    return REGISTRY.build("encoder", "second", SECOND | changes, where="encoder_args")


def build(name, args, flavor="heal"):
    return build_model({"model": {"core_method": name, "args": args}, "flavor": flavor, "parity": "published"})


def test_every_agent_gets_a_map_of_its_own():
    encoder = second().eval()
    inputs = voxels([0, 2])
    level = encoder(inputs, 4).map
    assert level.shape == (4, encoder.out_channels, 4, 4)
    assert [bool(own.any()) for own in level] == [True, False, True, False]
    lonely = {name: value[inputs["voxel_coords"][:, 0] == 2] for name, value in inputs.items()}
    lonely["voxel_coords"] = lonely["voxel_coords"] * torch.tensor([0, 1, 1, 1], dtype=torch.int32)
    assert torch.allclose(encoder(lonely).map[0], level[2], atol=1e-6)


def test_the_order_of_the_voxels_does_not_matter():
    encoder = second().eval()
    inputs = voxels([0, 1])
    order = torch.randperm(len(inputs["voxel_coords"]))
    shuffled = {name: value[order] for name, value in inputs.items()}
    assert torch.allclose(encoder(inputs, 2).map, encoder(shuffled, 2).map, atol=1e-6)


@pytest.mark.parametrize("name", ["second", "voxel_net"])
def test_a_sweep_without_points_leaves_no_trace(name):
    args = SECOND if name == "second" else FEATURES | {"voxel_size": [0.4, 0.4, 4], "lidar_range": RANGE}
    encoder = REGISTRY.build("encoder", name, args).train()
    level = encoder(voxels([]), 2).map
    assert level.shape[0] == 2
    assert not level.any()
    assert all(torch.isfinite(value).all() for value in encoder.state_dict().values())


def test_one_slice_of_voxel_net_is_a_pillar():
    """VoxelNet with one cell in height is PointPillar under other names, its middle layers idle."""
    args = FEATURES | {"voxel_size": PILLARS["voxel_size"], "lidar_range": RANGE}
    net = REGISTRY.build("encoder", "voxel_net", args).eval()
    pillars = REGISTRY.build("encoder", "point_pillar", args).eval()
    pillars.pillar_vfe.load_state_dict(net.svfe.state_dict())
    inputs = voxels([0, 1], cells=(1, 32, 32))
    assert torch.equal(net(inputs, 3).map, pillars(inputs, 3).map)


@pytest.mark.parametrize("name", MODELS)
def test_detectors_train(name):
    args, channels, side = MODELS[name]
    model = build(name, args).train()
    cells = (10, 32, 32) if name == "voxel_net" else (40, 32, 32)
    outputs = model({"processed_lidar": voxels([0, 1], count=200, cells=cells)})
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        key: (2, count, side, side) for key, count in channels.items()
    }
    sum(value.square().mean() for value in outputs.values()).backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


def test_ciassd_publishes_its_first_stage_together():
    for flavor, stage in {"heal": "stage1_out", "opencood": "preds_dict_stage1"}.items():
        outputs = build("ciassd", SSFA | {"head": HEAD}, flavor)({"processed_lidar": voxels([0])})
        assert list(outputs) == [stage]
        assert sorted(outputs[stage]) == ["box_preds", "cls_preds", "dir_cls_preds", "iou_preds"]


def test_coopre_has_residual_blocks():
    keys = set(build("second", MODELS["second"][0], "coopre").state_dict())
    assert {"backbone_3d.conv1.1.bn2.weight", "backbone_3d.conv4.2.conv1.bias", "backbone_3d.conv4.0.0.weight"} <= keys


def test_checkpoints_of_the_older_library_are_read(tmp_path):
    """Layout 1.x, and a first layer declared for 64 channels, become what a model for 4 channels runs."""
    path = tmp_path / "net_epoch1.pth"
    published = build("second_ssfa", SSFA | {"head": HEAD, "spconv": {"num_features_in": 64, "num_features_out": 64}})
    sparse = [key for key, value in published.state_dict().items() if value.dim() == 5]
    state = {k: v.permute(1, 2, 3, 4, 0) if k in sparse else v for k, v in published.state_dict().items()}
    write_state_dict(state, path)
    model = build("second_ssfa", SSFA | {"head": HEAD})
    assert load_checkpoint(model, path).complete
    batch = {"processed_lidar": voxels([0, 1])}
    with torch.no_grad():
        ours, theirs = model.eval()(batch), published.eval()(batch)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


WRONG = [
    ({"voxel_size": [0.4, 0.4, 0.2]}, r"20 x 32 x 32 cells \(z, y, x\) leaves a map of 0"),
    ({"map2bev": {"feature_num": 256}}, r"feature_num is 256, but the map has 128"),
    ({"spconv": {"num_features_in": 3}}, r"layer for 3 channels cannot take the 4"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_settings_that_cannot_work(changes, message):
    with pytest.raises(ConfigError, match=message):
        second(**changes)


def test_voxels_too_few_in_height_for_the_middle_layers():
    with pytest.raises(ConfigError, match="no slice of height"):
        build("voxel_net", MODELS["voxel_net"][0] | {"voxel_size": [0.4, 0.4, 4]})
