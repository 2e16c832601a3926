"""doctor: what it finds and the fix it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from opencood.experiments.doctor import examine
from opencood.experiments.finding import Finding, has_problem
from opencood.tools.doctor import main


def findings_about(root: Path, subject: str) -> list[Finding]:
    return [finding for finding in examine(root) if finding.subject == subject]


def test_a_working_machine_without_data(tmp_path: Path, capsys: Any) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for subject in ("Python", "torch", "numpy", "CUDA", "spconv", "data"):
        assert subject in printed
    assert "python opencood/tools/simulate.py --out dataset/OPV2V" in printed


def test_data_folders_are_counted(tmp_path: Path) -> None:
    for split in ("train", "validate"):
        (tmp_path / "dataset" / "OPV2V" / split / "2021_08_16_22_26_54").mkdir(parents=True)
    (found,) = findings_about(tmp_path, "OPV2V")
    assert (found.status, found.found) == ("ok", "dataset/OPV2V: scenarios: train 1, validate 1")


def test_empty_data_folders_are_problems(tmp_path: Path) -> None:
    (tmp_path / "dataset" / "OPV2V").mkdir(parents=True)
    (found,) = findings_about(tmp_path, "OPV2V")
    assert found.status == "problem"
    assert "simulate.py" in found.fix
    (tmp_path / "dataset" / "OPV2V" / "train").mkdir()
    (found,) = findings_about(tmp_path, "OPV2V")
    assert "empty split train" in found.found


def test_problems_decide_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "dataset" / "OPV2V").mkdir(parents=True)
    assert main(["--root", str(tmp_path)]) == 1
    assert not has_problem([Finding("ok", "a", "b"), Finding("note", "a", "b")])


def test_a_missing_package_names_its_installation(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("opencood.experiments.doctor.REQUIRED_PACKAGES", ("no_such_package",))
    (found,) = findings_about(tmp_path, "no_such_package")
    assert (found.status, found.fix) == ("problem", "pip install -r requirements.txt")


def test_an_old_python(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("opencood.experiments.doctor.MINIMUM_PYTHON", (99, 0))
    (found,) = findings_about(tmp_path, "Python")
    assert "99.0 or newer" in found.fix


def test_more_devices_named_than_there_are(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "GPU")
    monkeypatch.setattr(torch.version, "cuda", "12.5")
    (found,) = findings_about(tmp_path, "CUDA devices")
    assert "names 3 devices, 1 can be used" in found.found
    (spconv,) = findings_about(tmp_path, "spconv")
    assert spconv.status == "ok" or spconv.fix == "pip install '.[cu124]'"


def test_a_finding_reads_as_one_line_and_its_fix() -> None:
    lines = str(Finding("problem", "data", "empty", "fill it")).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("-> fill it")
