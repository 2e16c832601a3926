"""Flavor, parity and quirk switches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opencood.config.flavor import FLAVORS, PARITIES, flavor_of, is_shipped, parity_of, quirk, quirks_of
from opencood.config.loader import load_mapping, load_yaml
from opencood.config.quirks import QUIRKS
from opencood.errors import ConfigError

HETER = {"ego_modality": "m1", "mapping_dict": {}}


@pytest.mark.parametrize(
    ("hypes", "flavor"),
    [
        ({"heter": HETER}, "heal"),
        ({"heter": {**HETER, "definition_path": "x"}}, "codealign"),
        ({"heter": {**HETER, "heter_group": [["m1"]]}}, "codealign"),
        ({"heter": HETER, "model": {"core_method": "heter_codebook_shared_head"}}, "codealign"),
        ({"heter": HETER, "yaml_parser": ["load_general_params_heter_group"]}, "codealign"),
        ({"heter": HETER, "ego_diff_cav": True}, "gencomm"),
        ({"heter": HETER, "model": {"core_method": "heter_model_baseline_w_stamp"}, "yaml_parsers": {}}, "gencomm"),
        ({"heter": HETER, "fusion": {"core_method": "intermediateheterv2xreal"}}, "gencomm"),
        ({"heter": HETER, "noise_setting": {"add_pose_noise": True}}, "gencomm"),
        ({"heter": HETER, "model": {"core_method": "homo_collab"}}, "stamp"),
        ({"heter": {**HETER, "protocol_modality": "m0"}}, "stamp"),
        ({"model": {"core_method": "second_coopre"}}, "coopre"),
        ({"model": {"core_method": "point_pillar", "args": {"num_class": 3}}}, "v2xreal"),
        ({"fusion": {"core_method": "late", "dataset": "opv2v"}}, "coalign"),
        ({"loss": {"args": {"cls": {"weight": 1}}}}, "coalign"),
        ({"model": {"args": {"cls_head_dim": 256}}}, "v2v4real"),
        ({"root_dir": "dataset/V2V4Real/train"}, "v2v4real"),
        ({"root_dir_target": "data/v2vreal/train"}, "v2v4real"),
        ({"root_dir": "dataset/not_v2v4real_either"}, "opencood"),
        ({}, "opencood"),
        ({"flavor": "V2X-Real", "heter": HETER}, "v2xreal"),
        ({"model": {"flavor": "coalign"}}, "coalign"),
        ({"model": None, "loss": "None"}, "opencood"),
    ],
)
def test_flavor(hypes: dict, flavor: str) -> None:
    assert flavor_of(hypes) == flavor


@pytest.mark.parametrize(
    ("path", "hypes", "flavor"),
    [
        ("CodeAlign/opencood/hypes_yaml/opv2v/MoreModality/HEAL/a.yaml", {"heter": HETER}, "codealign"),
        ("work/HEAL/a.yaml", {"heter": HETER}, "heal"),
        ("HEAL/a.yaml", {"heter": {**HETER, "heter_group": [["m1"]]}}, "codealign"),
        ("GenComm/a.yaml", {"fusion": {"dataset": "opv2v"}}, "coalign"),
        ("CodeAlign/a.yaml", {"heter": HETER, "flavor": "heal"}, "heal"),
    ],
)
def test_the_folder_of_a_clone_decides_where_nothing_else_does(path: str, hypes: dict, flavor: str) -> None:
    assert flavor_of(hypes, Path(path)) == flavor


def test_an_unknown_flavor_or_parity() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'coalign'"):
        flavor_of({"flavor": "coaling"})
    with pytest.raises(ConfigError, match="parity"):
        parity_of({"parity": "mine"})


def test_parity() -> None:
    assert parity_of({}) == "published"
    assert parity_of({}, ours=True) == "fixed"
    assert parity_of({"parity": "published"}, ours=True) == "published"


def test_quirks_follow_parity_and_flavor() -> None:
    published = {"heter": HETER, "parity": "published"}
    assert quirk(published, "inference_range") == (102.4, 102.4)
    assert quirk({**published, "flavor": "gencomm"}, "inference_range") == (102.4, 51.2)
    assert quirk({**published, "parity": "fixed"}, "inference_range") is None
    assert quirk({**published, "quirks": {"inference_range": None}}, "inference_range") is None


def test_a_switch_that_does_not_exist_is_a_bug() -> None:
    with pytest.raises(KeyError):
        quirk({}, "no_such_switch")


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("parity", PARITIES)
def test_every_switch_has_a_value_for_everyone(flavor: str, parity: str) -> None:
    assert quirks_of({"flavor": flavor, "parity": parity}).keys() == QUIRKS.keys()


def test_a_misspelt_switch_is_named(sample: Any) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'delay_pose_only'"):
        load_mapping(sample(quirks={"delay_poses_only": True}))


def test_switches_reach_the_derived_numbers(sample: Any) -> None:
    hypes = sample(yaml_parser="load_voxel_params", parity="published")
    hypes["postprocess"]["anchor_args"]["cav_lidar_range"] = [-100.8, -40, -3, 100.8, 40, 1]
    hypes["preprocess"]["args"]["voxel_size"] = [0.1, 0.1, 0.1]
    assert load_mapping(hypes)["postprocess"]["anchor_args"]["W"] == 2015
    assert load_mapping({**hypes, "parity": "fixed"})["postprocess"]["anchor_args"]["W"] == 2016
    repaired = {**hypes, "quirks": {"grid_from_float_quotient": False}}
    assert load_mapping(repaired)["postprocess"]["anchor_args"]["W"] == 2016


def test_our_files_are_fixed() -> None:
    from opencood.config.flavor import SHIPPED

    path = SHIPPED / "sim" / "early.yaml"
    assert is_shipped(path)
    assert load_yaml(path)["parity"] == "fixed"
