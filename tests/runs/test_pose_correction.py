"""Whole pose corrections on simulated data: boxes stored, interrupted and continued, poses compared, the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.data.stored_boxes import StoredBoxes
from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments import box_storage
from opencood.experiments.box_storage import StorageOptions, store_boxes
from opencood.experiments.build import build_dataset, build_model
from opencood.experiments.pose_correction import run_pose_correction
from opencood.experiments.pose_errors import NOISY, PLAIN, WEIGHTED, PoseErrorOptions, evaluate_poses
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.tools import pose_graph_evaluate, pose_graph_pre_calc
from opencood.tools._cli import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that stores the boxes of a detector with random weights, which finds something everywhere."""
    folder = tmp_path_factory.mktemp("storing")
    simulate(SimulationOptions(out=folder / "data", preset="mini", seed=5))
    splits = {key: str(folder / "data" / split) for key, split in
              (("root_dir", "train"), ("validate_dir", "validate"), ("test_dir", "test"))}  # fmt: skip
    detector = load_yaml(
        write_yaml(folder / "detector.yaml", {"_base_": str(SHIPPED / "sim" / "uncertainty.yaml"), **splits})
    )
    torch.manual_seed(0)
    model = build_model(detector)
    with torch.no_grad():
        model.cls_head.bias.fill_(-1.3)
    torch.save(model.state_dict(), folder / "net_epoch1.pth")
    section = {
        "stage1_model": detector["model"]["core_method"],
        "stage1_model_config": detector["model"]["args"],
        "stage1_model_path": str(folder / "net_epoch1.pth"),
        "stage1_postprocessor_name": "uncertainty_voxel_postprocessor",
        "stage1_postprocessor_config": detector["postprocess"],
        "output_save_path": str(folder / "boxes"),
    }
    noise = {"add_noise": True, "args": {"pos_std": 5, "rot_std": 5}}
    content = {"_base_": str(folder / "detector.yaml"), "noise_setting": noise, "box_align_pre_calc": section}
    return write_yaml(folder / "precalc.yaml", content)


def options(storing: Path, **changes: Any) -> StorageOptions:
    return StorageOptions(storing, workers=0, progress=False, device="cpu", **changes)


def test_boxes_are_stored_by_frame_and_agent_without_noise(
    storing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(pose_graph_pre_calc.main, ["-y", str(storing), "--out", str(tmp_path), "--workers", "0"])
    assert end.value.code == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["train", "val", "test"]
    stored = StoredBoxes(tmp_path / "test" / box_storage.FILE)
    assert stored.anchor_size() == [4.5, 1.85]
    hypes = load_yaml(storing)
    dataset = build_dataset(hypes.replaced({**hypes, "validate_dir": hypes["test_dir"]}), train=False)
    for index in stored.indices():
        clean = {agent.id: agent.lidar_pose_clean for agent in dataset.frame(index).agents}
        for name, found in stored.of(index).items():
            assert found.pose == pytest.approx(clean[name], abs=1e-5)
            assert found.uncertainty.shape == (len(found.corners), 3)
    assert sum(len(found.corners) for index in stored.indices() for found in stored.of(index).values()) > 10


def test_an_interrupted_run_continues_and_a_finished_one_is_left_alone(
    storing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store_boxes(options(storing, splits=["test"], out=tmp_path / "whole"))["test"]
    seen = []
    find = box_storage._Finder.boxes

    def stumbling(self: Any, batch: Any) -> Any:
        seen.append(batch["sample_idx"])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return find(self, batch)

    monkeypatch.setattr(box_storage._Finder, "boxes", stumbling)
    chosen = options(storing, splits=["test"], out=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        store_boxes(chosen)
    journal = tmp_path / "broken" / "test" / box_storage.JOURNAL
    with journal.open("a") as file:
        file.write('2 {"cut')  # as a crash in the middle of a line leaves it
    with pytest.raises(ConfigError, match="--overwrite begins anew"):
        store_boxes(options(storing, splits=["test"], out=tmp_path / "broken", limit=3))
    continued = store_boxes(chosen)["test"]
    assert continued.before == 2 and seen == [0, 1, 2, 2, 3]
    assert continued.file.read_text() == whole.file.read_text()
    assert not journal.exists()
    assert store_boxes(chosen)["test"].before == continued.frames and len(seen) == 5


def test_poses_are_compared(storing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = store_boxes(options(storing, splits=["test"], out=tmp_path))["test"].file
    found = evaluate_poses(PoseErrorOptions(file, pos_std=0.3, out=tmp_path / "errors", progress=False))
    assert set(found.metres) == {NOISY, PLAIN, WEIGHTED}
    assert all(np.isfinite(errors).all() and len(errors) for errors in found.metres.values())
    content = yaml.safe_load(found.files[0].read_text())
    assert content["errors"][NOISY]["mean_m"] == pytest.approx(found.metres[NOISY].mean())
    assert content["args"]["anchor_size"] == [4.5, 1.85]
    with pytest.raises(SystemExit) as end:
        run(pose_graph_evaluate.main, [str(file), "--pos_std", "0"])
    assert end.value.code == 0
    assert "aligned, by uncertainty" in capsys.readouterr().out


def test_what_is_missing_is_named(storing: Path, tmp_path: Path) -> None:
    for change, match in (
        ({"stage1_model_path": str(tmp_path / "none.pth")}, "stage1_model_path: no file"),
        ({"stage1_model_path": str(tmp_path)}, "holds no checkpoint"),
    ):
        content = yaml.safe_load(storing.read_text())
        content["box_align_pre_calc"] |= change
        with pytest.raises(CheckpointError, match=match):
            store_boxes(options(write_yaml(tmp_path / "wrong.yaml", content)))
    with pytest.raises(ConfigError, match="no section box_align_pre_calc"):
        store_boxes(options(Path(yaml.safe_load(storing.read_text())["_base_"])))
    with pytest.raises(ConfigError, match="unknown 'tset'. Did you mean 'test'"):
        store_boxes(options(storing, splits=["tset"]))


def test_the_table(tmp_path: Path) -> None:
    table = run_pose_correction(tmp_path, "smallest", device="cpu")
    kinds = ("noisy", "corrected", "corrected, held")
    assert [row[0] for row in table.rows] == [f"{m}, {kind}" for m in ("late", "intermediate") for kind in kinds]
    assert set(table.pose_errors) == {0.2, 0.4, 0.6}
    assert all(file.is_file() for file in table.files)
    folder = tmp_path / "runs" / "uncertainty"
    assert (folder / "AP030507.yaml").is_file() and len(list(folder.glob("AP030507_box_alignment*.yaml"))) == 1
