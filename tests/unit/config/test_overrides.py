"""Command-line overrides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.config.loader import load_mapping
from opencood.config.overrides import configured_range, parse_range, update_dict, with_range
from opencood.errors import ConfigError

trees = st.recursive(
    st.integers() | st.none(), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4), max_leaves=10
)
maps = st.dictionaries(st.sampled_from("abcd"), trees, max_size=4)


@settings(deadline=None)
@given(maps, st.dictionaries(st.sampled_from("abcd"), st.integers() | st.none(), max_size=3))
def test_update_reaches_every_map_and_adds_nothing(tree: dict, new: dict) -> None:
    before = repr(tree)
    updated = update_dict(tree, new)
    assert repr(tree) == before
    assert update_dict(updated, new) == updated

    def check(old: Any, now: Any) -> None:
        assert list(old) == list(now)
        for key, value in old.items():
            if new.get(key) is not None:
                assert now[key] == new[key]
            elif isinstance(value, dict):
                check(value, now[key])
            else:
                assert now[key] == value

    check(tree, updated)


def test_lists_are_not_looked_into() -> None:
    tree = {"list": [{"a": 1}], "a": 1}
    assert update_dict(tree, {"a": 2}) == {"list": [{"a": 1}], "a": 2}


def test_range_replaces_every_range_and_derives_again(sample: Any) -> None:
    hypes = load_mapping(
        sample(yaml_parser="load_point_pillar_params", cav_lidar_range=[-51.2, -25.6, -3, 51.2, 25.6, 1])
    )
    wide = with_range(hypes, 102.4, 51.2)
    limits = [-102.4, -51.2, -3, 102.4, 51.2, 1]
    assert wide["cav_lidar_range"] == wide["model"]["args"]["lidar_range"] == wide["postprocess"]["gt_range"] == limits
    assert wide["postprocess"]["anchor_args"]["W"] == 512
    assert wide["model"]["args"]["point_pillar_scatter"]["grid_size"] == [512, 256, 1]
    assert hypes["postprocess"]["anchor_args"]["W"] == 256
    assert (wide["flavor"], wide["parity"]) == (hypes["flavor"], hypes["parity"])
    assert with_range(wide, 51.2, 25.6) == hypes


def test_copies_without_aliases_are_derived_again_too(sample: Any) -> None:
    scatter = {"num_features": 64, "grid_size": [256, 128, 1]}
    kd = {"teacher_model": "t", "teacher_path": "p", "teacher_model_config": {"point_pillar_scatter": dict(scatter)}}
    hypes = sample(yaml_parser="load_point_pillar_params", kd_flag=kd)
    hypes["model"]["args"]["point_pillar_scatter"] = dict(scatter)
    wide = with_range(load_mapping(hypes), 102.4, 51.2)
    teacher = wide["kd_flag"]["teacher_model_config"]["point_pillar_scatter"]
    assert teacher["grid_size"] == [512, 256, 1]


@pytest.mark.parametrize("text", ["102.4", "a,b", "1,2,3", "-1,2", "0,0", ""])
def test_range_texts_that_do_not_serve(text: str) -> None:
    with pytest.raises(ConfigError, match="--range"):
        parse_range(text)


def test_range_text() -> None:
    assert parse_range("102.4, 51.2") == (102.4, 51.2)


def test_configured_range_of_modalities_only(sample: Any) -> None:
    setting = {"m0": {"postprocess": sample()["postprocess"]}}
    assert configured_range({"heter": {"modality_setting": setting}})[3] == 51.2
    with pytest.raises(ConfigError, match="no detection range"):
        configured_range({"name": "x"})
