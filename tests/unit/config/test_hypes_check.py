"""Checking folders of hypes files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.errors import ConfigError
from opencood.experiments.hypes_check import (
    BUILT,
    FAILED,
    REFUSED,
    check_file,
    check_files,
    describe_model,
    hypes_files,
)
from opencood.experiments.hypes_sweep import SweepOptions, summary, sweep
from opencood.models.unavailable import why_unavailable


def test_parts_to_inherit_from_are_left_out(tmp_path: Path) -> None:
    for name in ("a.yaml", "_part.yaml", "_parts/b.yaml", "sub/c.yml", "sub/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a: 1\n")
    assert [path.name for path in hypes_files([tmp_path])] == ["a.yaml", "c.yml"]
    assert hypes_files([tmp_path / "_part.yaml"]) == [tmp_path / "_part.yaml"]


def test_paths_that_do_not_serve(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        hypes_files([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="no YAML file"):
        hypes_files([tmp_path])


def test_one_wrong_file_does_not_stop_the_others(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "a.yaml").write_text("a: [1\n")
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(sample(comm_rnge=1)))
    wrong, right = check_files([tmp_path], build=False)
    assert "a.yaml:" in wrong.error and wrong.outcome == REFUSED
    assert (right.parser, right.flavor, right.parity, right.error) == (
        "load_general_params",
        "coalign",
        "published",
        "",
    )
    assert "comm_range" in right.remarks[0]
    assert right.lines()[0].endswith("loaded")


def test_disturbances_are_checked_without_data(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample(perturb={"fog": {"visibility": 50, "when": "train"}})))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(sample(perturb={"fogs": {"when": "train"}})))
    right, wrong = check_files([tmp_path], build=False)
    assert right.error == "" and "Did you mean 'fog'" in wrong.error


def test_building_a_file_without_a_model_is_an_error(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample(model=None)))
    checked = check_file(tmp_path / "a.yaml")
    assert "model.core_method: missing" in checked.error and checked.outcome == REFUSED


def test_published_methods_are_refused_by_name(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample(model={"core_method": "heter_stamp_x", "args": {}})))
    assert "'heter_stamp_x' is a published model" in check_file(tmp_path / "a.yaml").error
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"model": {"core_method": "heter_diffcomm_single", "args": 3}}))
    error = check_file(tmp_path / "b.yaml").error
    assert "'heter_diffcomm_single' is published" in error and "never published" in error and "b.yaml:" in error
    assert why_unavailable("point_piler") is None


def test_a_defect_is_a_failure_and_does_not_stop_the_others(tmp_path: Path, sample: Any, monkeypatch: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample()))
    monkeypatch.setattr("opencood.experiments.hypes_check.build_from_scratch", lambda hypes: 1 // 0)
    checked = check_file(tmp_path / "a.yaml")
    assert checked.outcome == FAILED and "ZeroDivisionError" in checked.error


def test_another_detector_than_the_reference_is_a_failure(tmp_path: Path) -> None:
    reference = tmp_path / "status.json"
    reference.write_text(json.dumps({"sim/early.yaml": {"sha1": "0" * 40}}))
    (checked,) = sweep(SweepOptions((SHIPPED / "sim" / "early.yaml",), reference=reference))
    assert checked.outcome == FAILED and checked.model is not None and not checked.agrees
    reference.write_text(json.dumps({"sim/early.yaml": {"sha1": None, "repaired": {"sha1": checked.model.sha1}}}))
    (checked,) = sweep(SweepOptions((SHIPPED / "sim" / "early.yaml",), reference=reference))
    assert checked.outcome == BUILT and checked.agrees
    assert [line.split() for line in summary([checked])[1:]][-1] == ["all", *"11000", "1", "of", "1"]


def test_a_refusal_of_what_the_reference_builds_is_a_failure(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample(model={"core_method": "point_piler", "args": {}})))
    assert [check_file(tmp_path / "a.yaml", expected=digest).outcome for digest in ("", "1")] == [REFUSED, FAILED]
    (tmp_path / "b.yaml").write_text("a: [1\n")
    assert [check_file(tmp_path / "b.yaml", expected=digest).outcome for digest in ("", "1")] == [REFUSED, FAILED]
    for name in ("heter_diffcomm_single", "point_transformer"):  # refused by name: a method, an encoder
        model = {"core_method": name, "args": {}}
        if name == "point_transformer":
            model = {"core_method": "heter_model_late", "args": {"m1": {"core_method": name, "sensor_type": "lidar"}}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(sample(model=model)))
        checked = check_file(tmp_path / "c.yaml", expected="1")
        assert checked.outcome == REFUSED and checked.error


def test_the_known_slip_is_repaired_with_a_remark(tmp_path: Path) -> None:
    text = (SHIPPED / "sim" / "intermediate.yaml").read_text().replace("../", f"{SHIPPED}/")
    text = text.replace("_base_: _base", f"_base_: {SHIPPED}/sim/_base")
    slips = {
        "a": text.replace("    att: {feat_dim: 64}", "      feat_dim: 64"),
        "b": text.replace("    att: {feat_dim: 64}", "      att:\n        feat_dim: 64"),
    }
    for name, slip in slips.items():
        assert slip != text
        path = tmp_path / f"{name}.yaml"
        path.write_text(slip)
        with pytest.raises(ConfigError, match="Probably meant"):
            load_file(path)
        checked = check_file(path)
        assert checked.outcome == BUILT and any("repaired" in remark for remark in checked.remarks), checked.error


def test_figures_of_a_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    built = describe_model("x", model)
    lines = ["0.bias:3", "0.weight:3,2", "1.bias:3", "1.num_batches_tracked:", "1.running_mean:3", "1.running_var:3"]
    digest = hashlib.sha1("\n".join([*lines, "1.weight:3"]).encode()).hexdigest()
    assert (built.parameters, built.entries, built.sha1) == (15, 7, digest)
    assert digest in str(built)
