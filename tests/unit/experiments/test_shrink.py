"""The rule that makes a configuration small: it keeps what fits together fitting, and everything else as it is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.config.overrides import configured_range
from opencood.experiments.hypes_check import build_figures, check_file, hypes_files
from opencood.experiments.shrink import MOST_UNITS, UNIT, half_extents, is_range, rule_for, shrink


def _config(limits, voxel, **more):
    return {"preprocess": {"cav_lidar_range": limits, "args": {"voxel_size": voxel}}, **more}


@given(
    half=st.tuples(st.floats(20, 200), st.floats(20, 200)),
    voxel=st.sampled_from([0.05, 0.1, 0.16, 0.2, 0.25, 0.32, 0.4, 0.8]),
)
def test_small_ranges_are_whole_units_that_cells_divide(half, voxel):
    limits = [-half[0], -half[1], -3, half[0], half[1], 1]
    rule = rule_for(_config(limits, [voxel, voxel, 4]))
    assert rule is not None and rule.unit >= UNIT - 1e-6
    small = rule.limits(limits)
    assert is_range(small) and small[2] == -3 and small[5] == 1
    for extent in half_extents(small):
        assert round(extent / rule.unit, 6) in range(1, MOST_UNITS + 1)
        cells = 2 * extent / voxel
        assert abs(cells - round(cells)) < 1e-6 and round(cells) % 64 == 0


def test_a_camera_that_sees_half_as_far_still_does():
    limits = [-102.4, -102.4, -3, 102.4, 102.4, 1]
    grid = {"xbound": [-51.2, 51.2, 0.4], "ybound": [-51.2, 51.2, 0.4], "zbound": [-10, 10, 20.0]}
    camera = {"grid_conf": grid, "visible_range": [-51.2, -51.2, -3, 51.2, 51.2, 1]}
    rule = rule_for(_config(limits, [0.4, 0.4, 4], model={"args": {"lidar_range": limits, "m2": camera}}))
    assert rule is not None
    assert rule.limits(limits)[3] == 2 * rule.limits(camera["visible_range"])[3]
    assert rule.shares(None) == (0.25, 0.25)


def test_detectors_that_halve_maps_more_often_keep_more_cells():
    limits, robust = [-32, -32, -3, 32, 32, 2], {"args": {"robust": {"H": 40, "W": 40}}}
    usual, more = (rule_for(_config(limits, [0.4, 0.4, 5], **extra)) for extra in ({}, {"model": robust}))
    assert usual is not None and more is not None
    assert (usual.unit, more.unit) == (12.8, 25.6)


def test_nothing_to_shrink():
    assert rule_for({"name": "x"}) is None


@pytest.mark.parametrize("path", hypes_files([SHIPPED]), ids=lambda path: path.relative_to(SHIPPED).as_posix())
def test_the_network_stays_and_the_map_shrinks(path: Path):
    hypes = load_file(path)
    small = shrink(hypes)
    before, after = check_file(path).model, build_figures(small)
    assert before is not None and after == before
    width, whole = (max(half_extents(configured_range(content))) for content in (small, hypes))
    assert width < whole or width <= MOST_UNITS * UNIT
    assert shrink(small) == small


def test_map_sizes_pictures_and_shapes_follow():
    hypes = load_file(SHIPPED / "sim" / "intermediate.yaml")
    args = {
        **hypes["model"]["args"],
        "v2vnet": {"conv_gru": {"H": 64, "W": 64}},
        "adapter": {"in_cav_lidar_range": [-51.2, -51.2, -3, 51.2, 51.2, 1], "in_feature_shape": [64, 64]},
        "data_aug_conf": {"H": 600, "W": 800, "final_dim": [384, 512], "resize_lim": [0.64, 0.72]},
    }
    small = shrink(hypes.replaced({**hypes, "model": {**hypes["model"], "args": args}}))["model"]["args"]
    share = half_extents(small["lidar_range"])[0] / 51.2
    assert small["v2vnet"]["conv_gru"] == {"H": 64 * share, "W": 64 * share}
    assert small["adapter"]["in_feature_shape"] == [64 * share, 64 * share]
    conf = small["data_aug_conf"]
    assert (conf["H"], conf["W"], conf["final_dim"]) == (600, 800, [96, 128])
    assert conf["resize_lim"] == pytest.approx([0.16, 0.18])
