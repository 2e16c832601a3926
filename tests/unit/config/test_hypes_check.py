"""Checking folders of hypes files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from opencood.errors import ConfigError
from opencood.experiments.hypes_check import check_file, check_files, describe_model, hypes_files


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
    wrong, right = check_files([tmp_path])
    assert "a.yaml:" in wrong.error
    assert (right.parser, right.flavor, right.parity, right.error) == (
        "load_general_params",
        "coalign",
        "published",
        "",
    )
    assert "comm_range" in right.remarks[0]
    assert right.lines()[0].endswith("ok")


def test_disturbances_are_checked_without_data(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample(perturb={"fog": {"visibility": 50, "when": "train"}})))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(sample(perturb={"fogs": {"when": "train"}})))
    right, wrong = check_files([tmp_path])
    assert right.error == "" and "Did you mean 'fog'" in wrong.error


def test_building_a_file_without_a_model_is_an_error(tmp_path: Path, sample: Any) -> None:
    pytest.importorskip("opencood.models.build")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(sample(model=None)))
    assert "model.core_method: missing" in check_file(tmp_path / "a.yaml", build=True).error


def test_figures_of_a_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    built = describe_model("x", model)
    lines = ["0.bias:3", "0.weight:3,2", "1.bias:3", "1.num_batches_tracked:", "1.running_mean:3", "1.running_var:3"]
    digest = hashlib.sha1("\n".join([*lines, "1.weight:3"]).encode()).hexdigest()
    assert (built.parameters, built.entries, built.sha1) == (15, 7, digest)
    assert digest in str(built)
