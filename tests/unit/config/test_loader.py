"""Loading: run folders, messages with lines, flavor and parity filled in."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from opencood.config.loader import load_mapping, load_yaml
from opencood.config.save import save_config
from opencood.errors import ConfigError


def write(path: Path, content: dict) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_file(tmp_path: Path, sample: Any) -> None:
    hypes = load_yaml(write(tmp_path / "a.yaml", sample()))
    assert hypes["postprocess"]["anchor_args"]["H"] == 128
    assert (hypes["flavor"], hypes["parity"]) == ("coalign", "published")
    assert hypes.path == tmp_path / "a.yaml"
    assert hypes.source.where("name").endswith("a.yaml:1")


def test_the_run_folder_wins_over_the_file(tmp_path: Path, sample: Any) -> None:
    write(tmp_path / "config.yaml", sample(name="of_the_run"))
    for path in (None, "None", "nowhere.yaml"):
        assert load_yaml(path, model_dir=tmp_path)["name"] == "of_the_run"


def test_a_lone_yaml_of_another_name_is_used_with_a_notice(tmp_path: Path, sample: Any, caplog: Any) -> None:
    write(tmp_path / "m1m2_att.yaml", sample(name="copied"))
    for result in ("eval_102.4.yaml", "AP030507.yaml", "x_eval.yaml"):
        write(tmp_path / result, {"ap30": 0.5})
    with caplog.at_level(logging.WARNING):
        assert load_yaml(None, model_dir=tmp_path)["name"] == "copied"
    assert "using m1m2_att.yaml" in caplog.text


def test_run_folders_that_do_not_serve(tmp_path: Path, sample: Any) -> None:
    with pytest.raises(ConfigError, match="no such run folder"):
        load_yaml(None, model_dir=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        load_yaml(None, model_dir=tmp_path)
    write(tmp_path / "a.yaml", sample())
    write(tmp_path / "b.yaml", sample())
    with pytest.raises(ConfigError, match=r"several other YAML files \(a\.yaml, b\.yaml\)"):
        load_yaml(None, model_dir=tmp_path)


@pytest.mark.parametrize("path", [None, "None", ""])
def test_neither_file_nor_folder(path: str | None) -> None:
    with pytest.raises(ConfigError, match="-y FILE"):
        load_yaml(path)


def test_hypes_travel_to_workers_and_copies(tmp_path: Path, sample: Any) -> None:
    hypes = load_yaml(write(tmp_path / "a.yaml", sample()))
    for other in (pickle.loads(pickle.dumps(hypes)), copy.deepcopy(hypes)):
        assert other == hypes
        assert other.source.where("comm_range") == hypes.source.where("comm_range")


def test_no_two_places_share_an_object(sample: Any) -> None:
    hypes = load_mapping(sample())
    hypes["preprocess"]["cav_lidar_range"][0] = 0
    assert hypes["postprocess"]["gt_range"][0] == -51.2


def test_a_part_of_a_configuration_may_lack_what_a_run_needs(tmp_path: Path, sample: Any) -> None:
    part = sample(name=None, optimizer=None, train_params={"max_cav": 5})
    assert load_mapping(part)["postprocess"]["anchor_args"]["W"] == 256
    with pytest.raises(ConfigError, match=r"a\.yaml:1: name: missing; expected text"):
        load_yaml(write(tmp_path / "a.yaml", part))


def test_parity_of_our_own_files(tmp_path: Path, sample: Any) -> None:
    published = load_yaml(write(tmp_path / "a.yaml", sample()))
    save_config(published, tmp_path)
    assert load_yaml(None, model_dir=tmp_path)["parity"] == "published"
    content = {**sample(), "opencood_version": "0.1.0"}
    stamped = load_yaml(write(tmp_path / "b.yaml", content))
    assert stamped["parity"] == "fixed"
    assert stamped.saved_by == "0.1.0"
    assert "opencood_version" not in stamped


def test_a_wrong_flavor_names_line_and_nearest(tmp_path: Path, sample: Any) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml:\d+: flavor: 'gencom' .*Did you mean 'gencomm'"):
        load_yaml(write(tmp_path / "a.yaml", sample(flavor="gencom")))
