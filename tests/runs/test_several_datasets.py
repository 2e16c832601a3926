"""One detector on two data sets of different formats: trained on both together, tested on both together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.training import TrainingOptions, run_training

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHIPPED = Path(__file__).resolve().parents[2] / "opencood" / "hypes_yaml" / "sim" / "early.yaml"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="tiny data are not here")
def test_training_and_testing_on_two_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))

    def split(name: str) -> list[dict[str, object]]:
        infos = DATA / f"v2xsim_tiny/v2xsim2_info/v2xsim_infos_{name}.pkl"
        return [
            {"path": str(DATA / "opv2v_tiny" / name), "dataset": "opv2v"},
            {"path": str(infos), "dataset": "v2xsim", "range": [-30, -30, -3, 30, 30, 1]},
        ]

    content = {
        "_base_": str(SHIPPED),
        "name": "several",
        "root_dir": split("train"),
        "validate_dir": str(DATA / "opv2v_tiny/validate"),
        "test_dir": split("test"),
        "path_prefixes": {"v2xsim_tiny": str(DATA / "v2xsim_tiny")},
        "train_params": {"epoches": 1, "batch_size": 2, "max_train_batches": 2, "skip_post_train_eval": True},
    }
    file = tmp_path / "several.yaml"
    file.write_text(yaml.safe_dump(content))
    run = run_training(file, options=TrainingOptions(device="cpu", workers=0, run_dir=tmp_path / "run"))
    report = run_inference(InferenceOptions(model_dir=run, agents="ego", device="cpu", workers=0, save_vis_interval=0))
    assert report.frames == 8
