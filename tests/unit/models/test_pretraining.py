"""Masks, targets and encoders of pretraining."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretraining_samples import COARSE, SECOND, voxels, with_targets

from opencood.config.pretrain import MaskSettings
from opencood.errors import ConfigError, DataError
from opencood.models.build import build_model
from opencood.models.pretraining.masking import Masking, seen


def masking(training: bool = True, **changes: object) -> Masking:
    return Masking(MaskSettings(**changes), stride=8, grid=(128, 128)).train(training)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 300), ratio=st.floats(0, 1), scope=st.sampled_from(["batch", "sample"]))
def test_so_many_are_kept_as_published(count: int, ratio: float, scope: str) -> None:
    """floor(n (1 - ratio)) in double precision, of all or of every sample; 0 and all of them are fine."""
    samples = torch.sort(torch.randint(0, 3, (count,))).values
    kept = masking(ratio=ratio, scope=scope).kept(samples)
    sizes = torch.bincount(samples).tolist() if scope == "sample" else [count]
    groups = kept.split(sizes)
    assert [int(group.sum()) for group in groups] == [int(size * (1 - ratio)) for size in sizes]


def test_the_published_truncation() -> None:
    assert [int(masking(ratio=0.8).kept(torch.zeros(n, dtype=torch.long)).sum()) for n in (5, 205)] == [0, 40]


@pytest.mark.parametrize("unit", ["bev_cell", "voxel", "pillar"])
@pytest.mark.parametrize("of", ["joint", "each_agent", "ego"])
def test_what_is_hidden_is_hidden_as_a_whole(unit: str, of: str) -> None:
    batch = voxels(400)
    hidden = masking(unit=unit, of=of, ratio=0.6)(batch)
    filled = torch.arange(4) < batch["voxel_num_points"][:, None]
    assert not (hidden & ~filled).any() and 0 < hidden.sum() < filled.sum()
    owners = batch["voxel_agents"].long() if of != "joint" else torch.zeros_like(filled, dtype=torch.long)
    if of == "ego":
        assert not hidden[owners != 0].any()
        filled = filled & (owners == 0)
    sample, _, y, x = batch["voxel_coords"].long().unbind(1)
    place = (sample * 16 + y // 8) * 16 + x // 8 if unit == "bev_cell" else torch.arange(len(y))
    unit_of_point = (place[:, None] * 256 + owners)[filled]
    drawn = hidden[filled]
    for number in unit_of_point.unique():
        assert len(drawn[unit_of_point == number].unique()) == 1


def test_a_mask_depends_on_places_alone() -> None:
    batch = voxels(100)
    rows = torch.randperm(100)
    hidden = masking(training=False, ratio=0.5)(batch)
    other = masking(training=False, ratio=0.5)({key: value[rows] for key, value in batch.items()})
    assert torch.equal(other, hidden[rows])


def test_validation_hides_the_same_every_time_and_training_does_not() -> None:
    batch = voxels(200)
    still, moving = masking(training=False), masking()
    assert torch.equal(still(batch), still(batch))
    torch.manual_seed(0)
    first, second = moving(batch), moving(batch)
    torch.manual_seed(0)
    assert torch.equal(first, moving(batch)) and not torch.equal(first, second)


def test_owners_that_are_not_told_are_asked_for() -> None:
    batch = voxels()
    del batch["voxel_agents"]
    with pytest.raises(DataError, match=r"pretrain\.mask\.of: ego needs"):
        masking(of="ego")(batch)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), drop=st.booleans())
def test_visible_points_stay_in_order_and_hidden_ones_are_gone(seed: int, drop: bool) -> None:
    batch = voxels(30, seed=seed)
    filled = torch.arange(4) < batch["voxel_num_points"][:, None]
    hidden = filled & (torch.rand(30, 4, generator=torch.Generator().manual_seed(seed)) < 0.6)
    left = seen(batch, hidden, drop)
    rows = 0
    for points, gone, there in zip(batch["voxel_features"], hidden, filled, strict=True):
        visible = points[there & ~gone]
        if drop and not len(visible):
            continue
        count = int(left.voxels["voxel_num_points"][rows])
        assert count == len(visible) and torch.equal(left.voxels["voxel_features"][rows, :count], visible)
        assert not left.voxels["voxel_features"][rows, count:].any() and left.blind[rows] == (count == 0)
        rows += 1
    assert rows == len(left.blind)


def second(parity: str = "fixed", pretrain: dict | None = None, **preprocess: object) -> torch.nn.Module:
    bev = {"voxel_size": COARSE, "max_points_per_voxel": 8}
    hypes = {"flavor": "coopre", "parity": parity, "pretrain": pretrain or {}, "preprocess": {"bev_args": bev}}
    hypes["preprocess"] |= preprocess
    return build_model({**hypes, "model": {"core_method": "second_coopre", "args": SECOND}})


@pytest.mark.parametrize("parity", ["fixed", "published"])
def test_targets_are_relative_to_the_cell_or_as_the_file_says(parity: str) -> None:
    """A point in the middle of its cell, 1 m above the sensor: (0, 0, 1/4), or tens of fine voxels away."""
    torch.manual_seed(0)
    model = second(parity).eval()
    outputs = model({"processed_lidar": with_targets(voxels())})
    points = outputs["target_points"][outputs["target_valid"]]
    if parity == "fixed":
        assert torch.allclose(points, torch.tensor([0.0, 0.0, 0.25]).expand_as(points), atol=1e-5)
    else:
        x = outputs["target_cells"][:, 2]
        assert torch.allclose(points[:, 0], 7.0 * x + 3.5, atol=1e-3)
        assert torch.allclose(points[:, 2], torch.tensor(10.0))


@pytest.mark.parametrize("parity", ["fixed", "published"])
def test_targets_lead_back_to_metres(parity: str) -> None:
    model, batch = second(parity).eval(), with_targets(voxels())
    outputs = model({"processed_lidar": batch})
    points = model.targets.in_metres(outputs["target_cells"], outputs["target_points"])[outputs["target_valid"]]
    cells = batch["bev_voxel_coords"]
    hidden = outputs["gt_mask"][cells[:, 0].long(), cells[:, 2].long(), cells[:, 3].long()] > 0
    assert torch.allclose(points, batch["bev_voxel_features"][hidden][:, 0, :3], atol=1e-4)


def test_every_hidden_cell_has_its_target_in_order() -> None:
    outputs = second().eval()({"processed_lidar": with_targets(voxels())})
    assert torch.equal(outputs["target_cells"], outputs["gt_mask"].nonzero())
    assert outputs["pred_coor"].shape == (2, 60, 16, 16) and outputs["pred_num"].shape == (2, 1, 16, 16)
    total = outputs["gt_num"].sum() * 64
    assert total == voxels()["voxel_num_points"].sum()


def test_only_published_checkpoints_hold_the_backbone_that_never_runs() -> None:
    ours, theirs = (set(second(parity).state_dict()) for parity in ("fixed", "published"))
    assert ours < theirs and all(name.startswith("backbone_2d.") for name in theirs - ours)
    trained = set(second("fixed", {"decoder": {"after": "backbone_2d"}}).state_dict())
    assert any(name.startswith("backbone_2d.") for name in trained)


@pytest.mark.parametrize("layers", [0, 2])
def test_decoders_have_as_many_layers_as_wanted(layers: int) -> None:
    model = second("fixed", {"decoder": {"layers": layers}})
    convolutions = [m for n, m in model.named_modules() if "decoder" in n and isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == layers
    assert model.eval()({"processed_lidar": with_targets(voxels())})["pred_coor"].shape[1] == 60


def test_dropped_voxels_leave_no_trace_of_where_they_were() -> None:
    """With a token the map knows the places of what is hidden, without them it does not."""
    batch = with_targets(voxels(80, samples=1))
    moved = dict(batch)
    for masked_input, same in (("drop", True), ("token", False)):
        torch.manual_seed(0)
        model = second("fixed", {"masked_input": masked_input, "mask": {"unit": "voxel", "ratio": 0.5}}).eval()
        hidden = model.masking(batch).any(dim=1)
        coords = batch["voxel_coords"].clone()
        free = torch.arange(128)
        row = int(hidden.nonzero()[0])
        taken = {tuple(c) for c in coords[:, 1:].tolist()}
        coords[row, 3] = next(x for x in free.tolist() if (*coords[row, 1:3].tolist(), x) not in taken)
        moved["voxel_coords"] = coords
        maps = [model.encode({"processed_lidar": one}).map for one in (batch, moved)]
        assert torch.equal(*maps) == same
        assert any("mask_token" in name for name in model.state_dict()) != same


def test_cells_that_do_not_fit_the_map_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bev_args\.voxel_size: \[0\.4, 0\.8, 4\.0\] is not a cell .* 8 voxels"):
        second(bev_args={"voxel_size": [0.4, 0.8, 4.0]})
    with pytest.raises(ConfigError, match="bev_args.voxel_size: missing; pretrain.target: occupancy"):
        second("fixed", {"target": "occupancy"}, bev_args=None)


def test_a_batch_without_targets_or_views_is_refused() -> None:
    with pytest.raises(DataError, match=r"pretrain\.target: points needs preprocess\.bev_args"):
        second()({"processed_lidar": voxels()})
    with pytest.raises(DataError, match="no second view"):
        second("fixed", {"target": "contrast", "mask": {"unit": "none"}})({"processed_lidar": voxels()})


def test_what_is_null_or_unknown_is_as_if_it_were_not_there() -> None:
    settings = second("fixed", {"target": None, "mask": {"ratio": None, "colour": "red"}}).masking.settings
    assert settings == second().masking.settings


def test_the_share_is_the_files_unless_pretrain_says_otherwise() -> None:
    assert second().masking.settings.ratio == 0.5
    assert math.isclose(second("fixed", {"mask": {"ratio": 0.3}}).masking.settings.ratio, 0.3)
