"""Every data set format from ``simulate.py`` to average precision, in every way of fusing agents."""

import warnings
from pathlib import Path

import pytest
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.experiments.evaluate import evaluate_file
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.training import TrainingOptions, run_training

pytestmark = pytest.mark.slow
FORMATS = ("opv2v", "v2xset", "v2xsim", "dairv2x", "v2xreal", "v2v4real")
DETECTORS = ("early", "late", "intermediate", "heter")
SHORT = {"epoches": 1, "max_train_batches": 1, "batch_size": 2, "eval_freq": 1, "save_freq": 1}
QUIET = {"workers": 0, "progress": False, "device": "cpu", "save_vis_interval": 0}


@pytest.fixture
def train(clone, monkeypatch, tmp_path):
    """``train(format, detector)`` -> run folder of a detector that made one step, and one validation."""
    monkeypatch.chdir(clone)

    def make(format_name: str, detector: str, **changes) -> Path:
        content = {"_base_": str(SHIPPED / "sim" / format_name / f"{detector}.yaml"), "train_params": SHORT, **changes}
        hypes = write_yaml(tmp_path / "hypes.yaml", content)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return run_training(hypes, options=TrainingOptions(run_dir=tmp_path / "run", device="cpu", workers=0))

    return make


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("format_name", FORMATS)
def test_simulate_train_infer(train, format_name, detector):
    run = train(format_name, detector)
    report = run_inference(InferenceOptions(run, **QUIET))
    assert report.frames == 2 and report.ground_truths > 20
    assert 0 <= report.ap(0.5) <= 1
    assert report.megabits_per_frame is not None and report.megabits_per_frame > 0
    written = [yaml.safe_load(Path(file).read_text()) for file in report.files if file.endswith(".yaml")]
    assert any("ap_50" in content for content in written)


@pytest.mark.parametrize("detector", DETECTORS)
def test_v2x_real_in_its_four_modes(train, tmp_path, detector):
    run = train("v2xreal", detector, postprocess={"target_args": {"score_threshold": 0.0005}})
    hypes, truths = load_yaml(None, model_dir=run), {}
    for mode in ("vc", "ic", "v2v", "i2i"):
        save_config(hypes.replaced({**hypes, "dataset_mode": mode}), run)
        kept = tmp_path / f"{mode}.npz"
        report = run_inference(InferenceOptions(run, save_detections=kept, **QUIET))
        assert set(report.by_class) == {"vehicle", "pedestrian", "truck"}
        assert report.frames == 2 and report.detections > 0
        truths[mode] = report.ground_truths
        again = evaluate_file(kept)
        assert again.content()["ap_by_class"] == report.content()["ap_by_class"]
        assert set(DetectionSet.load(kept).labels) == {1, 2, 3}
    assert truths["vc"] >= truths["v2v"] > 0 and truths["ic"] >= truths["i2i"] > 0


def test_a_range_that_a_repository_never_states_is_its_constant(train, tmp_path):
    run = train("v2v4real", "late", postprocess={"gt_range": None})
    report = run_inference(InferenceOptions(run, **QUIET | {"save_vis_interval": 1}))
    assert report.protocol["gt_range"] == [-100, -40, -5, 100, 40, 3]
    assert report.ground_truths > 20 and list(run.rglob("*.png"))
