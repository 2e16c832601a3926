"""Lift-Splat-Shoot: depth bins, geometry, exact sums over cells, trunks and their weights."""

import copy
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.errors import CheckpointError, ConfigError, DataError
from opencood.models.build import build_model
from opencood.models.encoders.lift_splat_shoot_geometry import CellSum, DepthBins, Frustum
from opencood.models.encoders.trunks.efficientnet import EfficientNet, SamePaddedConv
from opencood.registry import REGISTRY

GRID = {"xbound": [-6.4, 6.4, 0.8], "ybound": [-3.2, 3.2, 0.8], "zbound": [-2, 2, 4.0], "ddiscr": [1, 9, 8]}
ARGS = {
    "grid_conf": GRID | {"mode": "LID"},
    "data_aug_conf": {"final_dim": [32, 64]},
    "img_downsample": 8,
    "img_features": 6,
    "depth_supervision": True,
    "camera_encoder": "Resnet101",
}
# A camera that looks along x of the agent: its x is to the right (-y), its y down (-z), its z ahead.
AHEAD = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
INTRINSIC = torch.tensor([[40.0, 0, 32], [0, 40, 16], [0, 0, 1]])


def encoder(**changes):
    args = copy.deepcopy(ARGS) | changes
    return REGISTRY.build("encoder", args.pop("core_method", "lift_splat_shoot"), args).eval()


def pictures(agents=2, cameras=2, channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(agents, cameras, channels, 32, 64, generator=generator)
    if channels > 3:
        images[:, :, 3] = torch.randint(0, 12, (agents, cameras, 32, 64), generator=generator).float()
    shape = (agents, cameras)
    return {
        "imgs": images,
        "rots": AHEAD.expand(*shape, 3, 3).clone(),
        "trans": torch.rand(*shape, 3, generator=generator),
        "intrins": INTRINSIC.expand(*shape, 3, 3).clone(),
        "post_rots": torch.eye(3).expand(*shape, 3, 3).clone(),
        "post_trans": torch.zeros(*shape, 3),
    }


# --- depth --------------------------------------------------------------------------------------


@given(
    mode=st.sampled_from(["LID", "UD"]),
    count=st.integers(2, 60),
    near=st.floats(0.5, 5),
    length=st.floats(5, 100),
    share=st.floats(0.01, 0.99),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_a_depth_inside_a_bin_gets_that_bin(mode, count, near, length, share, data):
    bins = DepthBins(near, near + length, count, mode)
    number = data.draw(st.integers(0, count - 1))
    starts = torch.cat([bins.depths(), torch.tensor([near + length], dtype=torch.float64)])
    depth = starts[number] + share * (starts[number + 1] - starts[number])
    assert int(bins.targets(depth)) == number


def test_depths_grow_linearly_from_bin_to_bin():
    depths = DepthBins(2, 50, 48, "LID").depths()
    assert depths.dtype == torch.float64
    assert float(depths[0]) == 2
    widths = depths.diff()
    torch.testing.assert_close(widths, widths[0] * torch.arange(1, 48, dtype=torch.float64))


@pytest.mark.parametrize(("mode", "no_return"), [("LID", 47), ("UD", 0)])
def test_no_return_and_far_away(mode, no_return):
    bins = DepthBins(2, 50, 48, mode)
    assert bins.targets(torch.tensor([0.0, 50.0, 255.0])).tolist() == [no_return, 47, 47]


def test_given_depth_outside_all_bins_counts_in_training_only():
    bins = DepthBins(2, 10, 8, "UD")
    depth = torch.tensor([[[1.0, 2.5, 9.99, 300.0]]])
    assert bins.eval()(depth).sum(dim=1).tolist() == [[[0, 1, 1, 0]]]
    assert bins.train()(depth).argmax(dim=1).tolist() == [[[0, 0, 7, 7]]]


def test_unknown_scale_is_named():
    with pytest.raises(ConfigError, match="LIDAR.*LID, UD"):
        encoder(grid_conf=GRID | {"mode": "LIDAR"})


# --- geometry -----------------------------------------------------------------------------------


def test_points_lie_on_the_ray_of_their_pixel():
    inputs = pictures(1, 1)
    frustum = Frustum((32, 64), 8, torch.tensor([2.0, 5.0]))
    points = frustum(inputs)[0, 0] - inputs["trans"][0, 0]
    assert points.shape == (2, 4, 8, 3)
    ahead, left, up = points.unbind(-1)
    torch.testing.assert_close(ahead, torch.tensor([2.0, 5.0])[:, None, None].expand(2, 4, 8))
    u, v = torch.linspace(0, 63, 8), torch.linspace(0, 31, 4)
    torch.testing.assert_close(left[1, 0], -(u - 32) / 40 * 5, atol=1e-5, rtol=0)
    torch.testing.assert_close(up[1, :, 0], -(v - 16) / 40 * 5, atol=1e-5, rtol=0)


@given(angle=st.floats(-0.3, 0.3), scale=st.floats(0.4, 1.5), shift=st.floats(-20, 20))
@settings(deadline=None, max_examples=20)
def test_the_picture_transform_is_undone(angle, scale, shift):
    plain = pictures(1, 1)
    turn = scale * torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    changed = plain | {"post_rots": plain["post_rots"].clone(), "post_trans": torch.full((1, 1, 3), shift)}
    changed["post_rots"][..., :2, :2] = turn
    changed["post_trans"][..., 2] = 0
    frustum = Frustum((32, 64), 8, torch.tensor([3.0]))
    moved, fixed = frustum(changed)[0, 0, 0], Frustum((32, 64), 8, torch.tensor([3.0]))(plain)[0, 0, 0]
    pixels = frustum.points[0, ..., :2]
    original = (pixels - shift) @ torch.linalg.inv(turn).T
    expected = torch.stack([torch.full((4, 8), 3.0), -(original[..., 0] - 32) / 40 * 3], dim=-1)
    torch.testing.assert_close(moved[..., :2] - plain["trans"][0, 0, :2], expected, atol=1e-3, rtol=1e-4)
    assert moved.shape == fixed.shape


def test_mixed_precision_moves_no_point():
    inputs, frustum = pictures(), Frustum((32, 64), 8, torch.tensor([2.0, 5.0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = frustum(inputs)
    assert torch.equal(rounded, frustum(inputs))


# --- sums over cells ----------------------------------------------------------------------------


@given(seed=st.integers(0, 2**20), agents=st.integers(1, 3), slices=st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_every_point_counts_once_in_its_cell(seed, agents, slices):
    generator = torch.Generator().manual_seed(seed)
    grid = {"xbound": [-2, 2, 1.0], "ybound": [-3, 3, 2.0], "zbound": [0, slices, 1.0]}
    points = torch.rand(agents, 2, 3, 2, 2, 3, generator=generator) * 8 - 4
    weights, features = torch.rand(agents * 2, 3, 2, 2, generator=generator), torch.randn(agents * 2, 5, 2, 2)
    level = CellSum(grid)(points, weights, features)
    expected = torch.zeros(agents, slices, 5, 3, 4)
    lower, step = torch.tensor([-2.0, -3, 0]), torch.tensor([1.0, 2, 1])
    for n, k, d, row, column in torch.cartesian_prod(*map(torch.arange, points.shape[:-1])).tolist():
        x, y, z = torch.trunc((points[n, k, d, row, column] - lower) / step).long().tolist()
        if 0 <= x < 4 and 0 <= y < 3 and 0 <= z < slices:
            picture = n * 2 + k
            expected[n, z, :, y, x] += weights[picture, d, row, column] * features[picture, :, row, column]
    torch.testing.assert_close(level, expected)
    assert level.is_contiguous()


def test_published_number_of_cells_is_cut():
    bound = [-19.2, 19.2, 0.4]
    assert CellSum({"xbound": bound, "ybound": [-51.2, 51.2, 0.4], "zbound": [-10, 10, 20.0]}).cells == [95, 256, 1]


def test_half_precision_is_summed_in_single():
    count = 4096
    points, ones = torch.full((1, 1, 1, 1, count, 3), 0.5), torch.ones(1, 1, 1, count, dtype=torch.bfloat16)
    level = CellSum({"xbound": [0, 1, 1], "ybound": [0, 1, 1], "zbound": [0, 1, 1]})(points, ones, ones)
    assert float(level) == count


# --- the encoder --------------------------------------------------------------------------------


@torch.no_grad()
def test_every_agent_sees_by_its_own_cameras_only():
    net, inputs = encoder(), pictures(2)
    both = net(inputs).map
    assert both.shape == (2, 6, 8, 16) == (2, net.out_channels, 8, 16)
    for n in range(2):
        alone = net({key: value[n : n + 1] for key, value in inputs.items()}).map
        torch.testing.assert_close(alone[0], both[n])


@torch.no_grad()
def test_the_order_of_the_cameras_says_nothing():
    net, inputs = encoder(), pictures(1, cameras=3)
    turned = {key: value.flip(1) for key, value in inputs.items()}
    torch.testing.assert_close(net(turned).map, net(inputs).map)


def test_inputs_stay_as_they_are():
    net, inputs = encoder(), pictures()
    before = {key: value.clone() for key, value in inputs.items()}
    net(inputs)
    assert all(torch.equal(inputs[key], value) for key, value in before.items())


def test_constants_are_not_in_the_state_dict():
    assert all(name.startswith("camencode.") for name in encoder().state_dict())
    assert all(buffer.device.type == "meta" for buffer in encoder().to("meta").buffers())


@torch.no_grad()
def test_depth_items_need_depth_pictures():
    net = encoder()
    logits, target = net(pictures()).aux["depth_items"]
    assert logits.shape == (4, 8, 4, 8)
    assert target.shape == (4, 4, 8)
    assert target.dtype == torch.int64
    assert not net(pictures(channels=3)).aux
    assert not encoder(depth_supervision=False)(pictures()).aux
    with pytest.raises(DataError, match="no depth channel"):
        encoder(use_depth_gt=True)(pictures(channels=3))


def test_given_depth_has_no_depth_head():
    net = encoder(use_depth_gt=True)
    assert not any("depth_head" in name for name in net.state_dict())
    assert not net(pictures()).aux


@torch.no_grad()
def test_height_slices_side_by_side_or_their_maximum():
    slices = GRID | {"mode": "LID", "zbound": [-2, 2, 2.0]}
    side_by_side, strongest = encoder(grid_conf=slices), encoder(grid_conf=slices, core_method="lift_splat_shoot_voxel")
    strongest.load_state_dict(side_by_side.state_dict())
    level = side_by_side(pictures()).map
    assert level.shape[1] == side_by_side.out_channels == 12
    assert strongest.out_channels == 6
    torch.testing.assert_close(strongest(pictures()).map, torch.maximum(level[:, :6], level[:, 6:]))


def test_gradients_reach_depth_and_features():
    net = encoder().train()
    net(pictures()).map.square().sum().backward()
    for head in (net.camencode.depth_head, net.camencode.image_head):
        assert float(head.weight.grad.abs().sum()) > 0


def test_pictures_of_another_size_are_refused():
    inputs = pictures()
    inputs["imgs"] = inputs["imgs"][..., :48]
    with pytest.raises(DataError, match="final_dim"):
        encoder()(inputs)
    del inputs["rots"]
    with pytest.raises(DataError, match="missing rots"):
        encoder()(inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_encoder": "Resnet50"}, "Resnet101"),
        ({"img_downsample": 16}, "must be 8"),
        ({"camera_encoder": "EfficientNet", "img_downsample": 4}, "8 or 16"),
        ({"data_aug_conf": {"final_dim": [36, 64]}}, "multiple of img_downsample"),
        ({"data_aug_conf": {}}, "final_dim"),
        ({"grid_conf": {"mode": "UD"}}, "grid_conf.xbound"),
        ({"grid_conf": GRID | {"mode": "UD", "zbound": [0, 1, 2.0]}}, "at least one"),
    ],
)
def test_what_cannot_be_built_is_said(changes, message):
    with pytest.raises(ConfigError, match=message):
        encoder(**changes)


# --- trunks -------------------------------------------------------------------------------------


@given(kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2]), half=st.integers(2, 12))
@settings(deadline=None, max_examples=20)
def test_same_padding_halves_even_sizes(kernel, stride, half):
    size = 2 * half
    assert SamePaddedConv(1, 1, kernel, stride)(torch.zeros(1, 1, size, size)).shape[-1] == size // stride


@torch.no_grad()
def test_efficientnet_gives_a_pyramid():
    shapes = [tuple(level.shape) for level in EfficientNet(0.0).eval()(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 2, 3)]


@torch.no_grad()
def test_efficientnet_at_sixteen_and_with_sides_that_do_not_halve():
    coarse = encoder(camera_encoder="EfficientNet", img_downsample=16)
    assert not any(".up2." in name for name in coarse.state_dict())
    assert coarse(pictures()).map.shape == (2, 6, 8, 16)
    odd = encoder(camera_encoder="EfficientNet", data_aug_conf={"final_dim": [48, 80]})
    inputs = pictures()
    inputs["imgs"] = torch.nn.functional.pad(inputs["imgs"], (0, 16, 0, 16))
    assert odd(inputs).map.shape == (2, 6, 8, 16)


@torch.no_grad()
def test_drop_connect_leaves_out_blocks_in_training_only():
    net = EfficientNet(0.9)
    picture = torch.randn(4, 3, 32, 32)
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0
    first, second = net.train()(picture)[-1], net(picture)[-1]
    assert not torch.equal(first, second)
    assert torch.equal(net.eval()(picture)[-1], net(picture)[-1])
    plain = EfficientNet(0.0).train()
    assert torch.equal(plain(picture)[-1], plain(picture)[-1])


@pytest.mark.parametrize(("name", "trunk"), [("EfficientNet", "camencode.trunk."), ("Resnet101", "camencode.")])
def test_trunk_weights_come_from_a_file(tmp_path, name, trunk):
    source = encoder(camera_encoder=name).state_dict()
    heads = ("up1.", "up2.", "depth_head.", "image_head.")
    state = {key.removeprefix(trunk): value for key, value in source.items() if key.startswith(trunk)}
    state = {key: torch.randn_like(value) for key, value in state.items() if value.is_floating_point()}
    state = {key: value for key, value in state.items() if not key.startswith((*heads, "_fc"))}
    torch.save(state | {"layer4.0.conv1.weight": torch.zeros(2)}, tmp_path / "trunk.pth")
    loaded = encoder(camera_encoder=name, trunk_weights=str(tmp_path / "trunk.pth")).state_dict()
    assert all(torch.equal(loaded[trunk + key], value) for key, value in state.items())

    lacking = dict(list(state.items())[1:])
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(CheckpointError, match=next(iter(state))):
        encoder(camera_encoder=name, trunk_weights=str(tmp_path / "lacking.pth"))


def test_a_fresh_trunk_is_said_once(caplog):
    with caplog.at_level(logging.INFO):
        encoder()
    assert [record.message for record in caplog.records if "fresh" in record.message] == [
        "image trunk ResNetImage starts fresh: no trunk_weights file is given"
    ]


# --- detectors ----------------------------------------------------------------------------------


def test_homogeneous_camera_detector_publishes_depth():
    model = build_model({"model": {"core_method": "lift_splat_shoot", "args": HOMOGENEOUS}, "flavor": "coalign"})
    outputs = model({"image_inputs": pictures()})
    assert set(outputs) == {"cls_preds", "reg_preds", "depth_items"}
    assert outputs["reg_preds"].shape == (2, 14, 16, 16)
    sum(outputs[key].square().mean() for key in ("cls_preds", "reg_preds")).backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert not unused


SQUARE = GRID | {"mode": "LID", "ybound": [-6.4, 6.4, 0.8]}
HOMOGENEOUS = ARGS | {"grid_conf": SQUARE, "bevout_feature": 16, "anchor_number": 2}
