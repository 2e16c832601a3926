"""Derived keys: numbers, idempotence, purity, aliases, parsers by modality."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.config.loader import load_mapping, load_yaml, reparse
from opencood.config.parsers.derive import anchor_numbers, bev_geometry, cells, fill, grid_of
from opencood.config.tree import lookup
from opencood.errors import ConfigError
from opencood.registry import REGISTRY

VOXEL_PARSERS = (
    "load_general_params",
    "load_lift_splat_shoot_params",
    "load_point_pillar_params",
    "load_second_params",
    "load_voxel_params",
)


@pytest.mark.parametrize(
    ("low", "high", "step", "rounding", "exact", "expected"),
    [
        (-19.2, 19.2, 0.4, "truncate", False, 95),
        (-19.2, 19.2, 0.4, "truncate", True, 96),
        (-100.8, 100.8, 0.1, "truncate", False, 2015),
        (-100.8, 100.8, 0.1, "truncate", True, 2016),
        (-3, 2, 4, "ceil", True, 2),
        (-3, 2, 4, "truncate", True, 1),
        (-140.8, 140.8, 0.1, "ceil", True, 2816),
        (-1, 1, 0.3, "nearest", True, 7),
    ],
)
def test_cells(low: float, high: float, step: float, rounding: str, exact: bool, expected: int) -> None:
    assert cells(low, high, step, rounding, exact) == expected


@settings(deadline=None)
@given(
    st.integers(1, 4000),
    st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.4, 0.8]),
    st.sampled_from(["ceil", "truncate", "nearest"]),
)
def test_whole_grids_are_exact_whatever_the_rounding(count: int, step: float, rounding: str) -> None:
    half = count * step / 2
    assert cells(-half, half, step, rounding) == count


def test_anchor_numbers_and_grid() -> None:
    numbers = anchor_numbers([-102.4, -51.2, -3, 102.4, 51.2, 2], [0.4, 0.4, 4], "ceil")
    assert numbers == {"vw": 0.4, "vh": 0.4, "vd": 4, "W": 512, "H": 256, "D": 2}
    assert grid_of([-102.4, -51.2, -3, 102.4, 51.2, 1], [0.4, 0.4, 4], "nearest") == [512, 256, 1]


def test_bev_geometry() -> None:
    geometry = bev_geometry([-38.4, -40, -3, 38.4, 40, 1], 0.4, 4)
    assert geometry["input_shape"] == [192, 200, 11]
    assert geometry["label_shape"] == [48, 50, 7]
    assert (geometry["L1"], geometry["W2"], geometry["H2"]) == (-38.4, 40, 1)


@settings(deadline=None, max_examples=60)
@given(
    parser=st.sampled_from(VOXEL_PARSERS),
    half=st.tuples(st.integers(8, 400), st.integers(8, 400)),
    voxel=st.sampled_from([[0.4, 0.4, 4], [0.1, 0.1, 0.2], [0.3, 0.3, 5]]),
    flavor=st.sampled_from(["heal", "codealign", "coopre", "coalign"]),
    parity=st.sampled_from(["published", "fixed"]),
)
def test_parsers_are_idempotent_and_pure(
    sample: Any, parser: str, half: Any, voxel: Any, flavor: str, parity: str
) -> None:
    limits = [-half[0] * 0.4, -half[1] * 0.4, -3, half[0] * 0.4, half[1] * 0.4, 1]
    hypes = sample(yaml_parser=parser, flavor=flavor, parity=parity)
    hypes["preprocess"]["cav_lidar_range"] = limits
    hypes["preprocess"]["args"]["voxel_size"] = voxel
    before = copy.deepcopy(hypes)
    once = load_mapping(hypes)
    assert hypes == before
    assert reparse(once) == once
    assert {"W", "H", "D", "vw", "vh", "vd"} <= once["postprocess"]["anchor_args"].keys()


def test_bev_parser_fills_three_sections(sample: Any) -> None:
    hypes = sample(yaml_parser="load_bev_params")
    hypes["preprocess"]["args"] = {"res": 0.4, "downsample_rate": 4}
    loaded = load_mapping(hypes)
    places = [loaded["preprocess"], loaded["postprocess"], loaded["model"]["args"]]
    assert all(place["geometry_param"]["label_shape"] == [64, 32, 7] for place in places)
    assert reparse(loaded) == loaded


def test_a_list_of_parsers_is_applied_in_order(sample: Any) -> None:
    loaded = load_mapping(sample(yaml_parser=["load_point_pillar_params", "load_voxel_params"]))
    assert loaded["model"]["args"]["point_pillar_scatter"]["grid_size"] == [256, 128, 1]
    assert loaded["model"]["args"]["W"] == 256


def test_an_alias_gets_the_derived_keys_too_and_nothing_is_shared_after_loading(tmp_path: Path, sample: Any) -> None:
    text = """
_base_: base.yaml
model: {core_method: point_pillar, args: {point_pillar_scatter: &scatter {num_features: 32}}}
kd_flag: {teacher_model: t, teacher_path: p, teacher_model_config: {point_pillar_scatter: *scatter}}
"""
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(sample(yaml_parser="load_point_pillar_params", model=None)))
    (tmp_path / "child.yaml").write_text(text)
    loaded = load_yaml(tmp_path / "child.yaml")
    own = loaded["model"]["args"]["point_pillar_scatter"]
    teacher = loaded["kd_flag"]["teacher_model_config"]["point_pillar_scatter"]
    assert own["grid_size"] == teacher["grid_size"] == [256, 128, 1]
    assert own is not teacher
    own["grid_size"].append(1)
    assert teacher["grid_size"] == [256, 128, 1]


def test_fill_finds_copies_only_when_they_already_hold_derived_keys() -> None:
    tree = {"a": {"x": 1, "n": 1}, "copy": {"x": 1, "n": 1}, "other": {"x": 1}, "list": [{"x": 1, "n": 1}]}
    filled = fill(tree, "a", {"n": 2})
    assert filled == {"a": {"x": 1, "n": 2}, "copy": {"x": 1, "n": 2}, "other": {"x": 1}, "list": [{"x": 1, "n": 2}]}
    assert tree["copy"]["n"] == 1


def by_modality(sample: Any, **parsers: Any) -> dict:
    modality = {
        "sensor_type": "lidar",
        "core_method": "point_pillar",
        "preprocess": sample()["preprocess"],
        "postprocess": sample()["postprocess"],
    }
    heter = {"ego_modality": "m0", "mapping_dict": {}, "modality_setting": {"m0": modality, "m1": modality}}
    return sample(yaml_parser=None, yaml_parsers=parsers, heter=heter, preprocess=None, postprocess=None)


def test_parsers_by_modality(sample: Any) -> None:
    loaded = load_mapping(by_modality(sample, m0="load_general_params", m1="load_rgb_params"))
    settings_of = loaded["heter"]["modality_setting"]
    assert settings_of["m0"]["postprocess"]["anchor_args"]["W"] == 256
    assert "W" not in settings_of["m1"]["postprocess"]["anchor_args"]
    assert reparse(loaded) == loaded


def test_bev_geometry_of_a_modality_reaches_its_encoder(sample: Any) -> None:
    hypes = by_modality(sample, m0="load_bev_params", m1="load_rgb_params")
    hypes["heter"]["modality_setting"]["m0"]["preprocess"]["args"] = {"res": 0.4, "downsample_rate": 2}
    loaded = load_mapping(hypes)
    expected = loaded["heter"]["modality_setting"]["m0"]["preprocess"]["geometry_param"]
    assert lookup(loaded, "model.args.m0.encoder_args.geometry_param") == expected


def test_a_modality_without_parser_is_an_error(sample: Any) -> None:
    with pytest.raises(ConfigError, match="no entry for modality 'm1'"):
        load_mapping(by_modality(sample, m0="load_general_params"))


def test_tasks_of_stamp(sample: Any) -> None:
    task = {**sample()["postprocess"], "voxel_size": [0.8, 0.8, 4]}
    loaded = load_mapping(sample(yaml_parser="load_general_params_heter_task", postprocess={"m1": task, "m2": task}))
    assert loaded["postprocess"]["m2"]["anchor_args"]["W"] == 128


def test_codealign_postprocessor_knows_its_grid(sample: Any) -> None:
    loaded = load_mapping(sample(yaml_parser="load_point_pillar_params", flavor="codealign"))
    assert loaded["postprocess"]["voxel_size"] == [0.4, 0.4, 4]
    assert "voxel_size" not in load_mapping(sample(yaml_parser="load_point_pillar_params"))["postprocess"]


def precalc(sample: Any) -> dict:
    stage1 = {"anchor_args": {"cav_lidar_range": [-51.2, -25.6, -3, 51.2, 25.6, 1]}, "core_method": "x"}
    section = {"stage1_model_config": {"point_pillar_scatter": {}}, "stage1_postprocessor_config": stage1}
    return sample(box_align_pre_calc=section)


def test_stage_1_detector_of_box_alignment(sample: Any) -> None:
    loaded = load_mapping({**precalc(sample), "yaml_parser": "load_point_pillar_params_stage1"})
    section = loaded["box_align_pre_calc"]
    assert section["stage1_model_config"]["point_pillar_scatter"]["grid_size"] == [256, 128, 1]
    assert section["stage1_postprocessor_config"]["anchor_args"]["W"] == 256


@pytest.mark.parametrize(("flavor", "same"), [("coalign", True), ("coopre", False)])
def test_voxel_parser_shares_anchors_with_the_stage_1_postprocessor(sample: Any, flavor: str, same: bool) -> None:
    loaded = load_mapping({**precalc(sample), "yaml_parser": "load_voxel_params", "flavor": flavor})
    stage1 = loaded["box_align_pre_calc"]["stage1_postprocessor_config"]["anchor_args"]
    assert (stage1 == loaded["postprocess"]["anchor_args"]) is same


def test_second_rounds_up_only_in_coopre(sample: Any) -> None:
    def depth(flavor: str) -> int:
        hypes = sample(yaml_parser="load_second_params", flavor=flavor)
        hypes["preprocess"]["args"]["voxel_size"] = [0.4, 0.4, 3]
        return load_mapping(hypes)["postprocess"]["anchor_args"]["D"]

    assert (depth("heal"), depth("coopre")) == (1, 2)


def test_modalities_from_a_library(tmp_path: Path, sample: Any) -> None:
    settings_of = "m1: {sensor_type: lidar, core_method: p}, m2: {sensor_type: camera, core_method: l}"
    library = f"heter: {{modality_setting: {{{settings_of}}}}}\n"
    (tmp_path / "library.yaml").write_text(library + "model: {args: {m1: {core_method: p}, m2: {core_method: l}}}\n")
    heter = {"ego_modality": ["m2", "m1"], "mapping_dict": {}, "definition_path": str(tmp_path / "library.yaml")}
    loaded = load_mapping(sample(yaml_parser="load_general_params_heter_group", heter=heter))
    assert list(loaded["heter"]["modality_setting"]) == ["m2", "m1"]
    assert loaded["model"]["args"]["m2"] == {"core_method": "l"}
    assert loaded["flavor"] == "codealign"
    assert reparse(loaded) == loaded
    (tmp_path / "library.yaml").unlink()
    with pytest.warns(UserWarning, match="using the definitions saved here"):
        assert reparse(loaded) == loaded


def test_a_library_without_the_modality(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "library.yaml").write_text("heter: {modality_setting: {m1: {}}}\nmodel: {args: {m1: {}}}\n")
    heter = {"ego_modality": "m11", "mapping_dict": {}, "definition_path": str(tmp_path / "library.yaml")}
    with pytest.raises(ConfigError, match=r"library\.yaml: .*no definition of modality 'm11'.*Did you mean 'm1'"):
        load_mapping(sample(yaml_parser="load_general_params_heter_group", heter=heter))


def test_a_library_that_is_missing(sample: Any) -> None:
    heter = {"ego_modality": "m1", "mapping_dict": {}, "definition_path": "nowhere/library.yaml"}
    with pytest.raises(ConfigError, match=r"heter\.definition_path: no file 'nowhere/library\.yaml'"):
        load_mapping(sample(yaml_parser="load_general_params_heter_group", heter=heter))


def test_an_unknown_parser_names_the_nearest(sample: Any) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'load_general_params'"):
        load_mapping(sample(yaml_parser="load_general_param"))


@pytest.mark.parametrize("parser", [3, ["load_general_params", 3], {"a": 1}])
def test_a_parser_must_be_a_name(sample: Any, parser: Any) -> None:
    with pytest.raises(ConfigError, match="yaml_parser"):
        load_mapping(sample(yaml_parser=parser, heter={"ego_modality": "m1", "mapping_dict": {}}))


def test_a_missing_key_names_path_and_nearest(sample: Any) -> None:
    hypes = sample()
    hypes["preprocess"]["args"] = {"voxel_sze": [0.4, 0.4, 4]}
    with pytest.raises(ConfigError, match=r"preprocess\.args\.voxel_size: missing; .*Did you mean 'voxel_sze'"):
        load_mapping(hypes)


def test_a_wrong_voxel_size(sample: Any) -> None:
    hypes = sample()
    hypes["preprocess"]["args"]["voxel_size"] = [0.4, 0.4]
    with pytest.raises(ConfigError, match=r"preprocess\.args\.voxel_size: expected a list of 3 numbers"):
        load_mapping(hypes)


def test_without_parser_nothing_is_derived(sample: Any) -> None:
    assert "W" not in load_mapping(sample(yaml_parser=None))["postprocess"]["anchor_args"]


def test_every_published_parser_is_registered() -> None:
    expected = {
        *VOXEL_PARSERS,
        "load_bev_params",
        "load_rgb_params",
        "load_point_pillar_params_stage1",
        "load_general_params_heter_group",
        "load_general_params_heter_task",
    }
    assert expected <= set(REGISTRY.names("yaml_parser"))
