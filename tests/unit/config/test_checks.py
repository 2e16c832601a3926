"""Section checks: what is wrong or missing fails, what nobody knows warns, each with its line and the nearest name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from opencood.config.loader import load_mapping, load_yaml
from opencood.config.schema.key import REQUIRED
from opencood.config.schema.sections import SECTIONS
from opencood.errors import ConfigError


def changed(hypes: dict, path: str, value: Any) -> dict:
    node = hypes
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return hypes


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("train_params.batch_size", "two", "a whole number above 0"),
        ("train_params.epoches", 0, "a whole number above 0"),
        ("comm_range", "far", "a number not below 0"),
        ("label_type", "lidr", "Did you mean 'lidar'"),
        ("input_source", "lidar", "a list of lidar, camera, depth"),
        ("preprocess.cav_lidar_range", [1, 2, 3], r"a list of 6 numbers"),
        ("postprocess.anchor_args.l", "3,9", "a number"),
        ("postprocess.order", "whl", "one of hwl, lwh, lhw"),
        ("optimizer.lr", "fast", "a number"),
        ("fusion", "intermediate", "a map"),
        ("fusion.args.proj_first", 1, "true or false"),
        ("data_augment", [1], "a list of maps"),
        ("model", [], "a map"),
    ],
)
def test_wrong_kinds(sample: Any, path: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"{path}: .*{expected}"):
        load_mapping(changed(sample(), path, value))


@pytest.mark.parametrize(
    "path",
    [
        "name",
        "root_dir",
        "validate_dir",
        "train_params",
        "train_params.batch_size",
        "fusion.core_method",
        "optimizer.lr",
        "preprocess.core_method",
        "postprocess.target_args.score_threshold",
        "loss.core_method",
    ],
)
def test_missing_keys_of_a_file(tmp_path: Path, sample: Any, path: str) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(changed(sample(), path, None), sort_keys=False))
    with pytest.raises(ConfigError, match=rf"a\.yaml:\d+: {path}: missing; expected"):
        load_yaml(tmp_path / "a.yaml")


def test_a_missing_key_points_at_its_misspelling(tmp_path: Path, sample: Any) -> None:
    hypes = changed(sample(), "train_params.epoches", None)
    hypes["train_params"]["epochs"] = 3
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(hypes, sort_keys=False))
    with pytest.warns(UserWarning, match="epochs"), pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        load_yaml(tmp_path / "a.yaml")


def test_unknown_keys_warn_with_place_and_nearest(tmp_path: Path, sample: Any) -> None:
    hypes = sample(comm_rnge=70)
    hypes["postprocess"]["nms_treshold"] = 0.1
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(hypes, sort_keys=False))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_yaml(tmp_path / "a.yaml")
    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 2
    assert "unknown key 'comm_rnge' is ignored. Did you mean 'comm_range'?" in messages[0] + messages[1]
    assert all("a.yaml:" in message for message in messages)


@pytest.mark.parametrize("value", [None, "None"])
def test_null_and_the_text_none_mean_not_used(sample: Any, value: Any) -> None:
    hypes = sample()
    hypes["fusion"]["args"] |= {"grid_conf": value, "data_aug_conf": value}
    hypes["noise_setting"] = value
    hypes["kd_flag"] = value
    assert load_mapping(hypes)["kd_flag"] == value


def test_component_arguments_are_left_to_the_components(sample: Any) -> None:
    hypes = sample()
    hypes["model"]["args"]["anything"] = 1
    hypes["preprocess"]["args"]["anything"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_mapping(hypes)


def test_lists_of_maps_are_checked_item_by_item(sample: Any) -> None:
    hypes = sample(data_augment=[{"NAME": "random_world_flip", "ALONG_AXIS_LIST": "x"}])
    with pytest.raises(ConfigError, match=r"data_augment\.0\.ALONG_AXIS_LIST: expected a list of texts"):
        load_mapping(hypes)


def test_modality_sections_are_checked_by_name(sample: Any) -> None:
    setting = {"m1": {"sensor_type": "lidar", "core_method": 3}}
    heter = {"ego_modality": "m1", "mapping_dict": {}, "modality_setting": setting}
    with pytest.raises(ConfigError, match=r"heter\.modality_setting\.m1\.core_method: expected text"):
        load_mapping(sample(heter=heter))


def test_losses_by_modality(sample: Any) -> None:
    losses = {"m1": {"core_method": "point_pillar_loss", "args": {}}, "m2": {"args": {}}}
    with pytest.raises(ConfigError, match=r"loss\.m2\.core_method: missing"):
        load_mapping(sample(loss=losses))


def test_defaults_of_the_table_have_their_own_kind() -> None:
    for section, keys in SECTIONS.items():
        assert len({key.name for key in keys}) == len(keys), section
        for key in keys:
            assert key.meaning, (section, key.name)
            if key.default is not REQUIRED and key.default is not None:
                assert key.kind.accepts(key.default), (section, key.name)
