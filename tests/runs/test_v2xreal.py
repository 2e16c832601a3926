"""V2X-Real, three classes: from simulated data through the published tools to figures by class; learning by heart."""

from pathlib import Path

import pytest
import yaml

from opencood.config.flavor import SHIPPED
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.experiments.evaluate import EvaluationOptions, evaluate_file
from opencood.experiments.overfit import run_overfit
from opencood.experiments.training import TrainingOptions, run_training
from opencood.tools import inference_v2xreal, inference_v2xreal_heter_in_order

pytestmark = pytest.mark.slow
SHORT = {"epoches": 1, "max_train_batches": 2, "batch_size": 2, "eval_freq": 1, "save_freq": 1}
CLASSES = ["vehicle", "pedestrian", "truck"]
QUIET = ["--workers", "0", "--device", "cpu", "--save_vis_interval", "0"]


def hypes(folder: Path, detector: str) -> Path:
    content = {"_base_": str(SHIPPED / "sim" / "v2xreal" / f"{detector}.yaml"), "train_params": SHORT}
    content["postprocess"] = {"target_args": {"score_threshold": 0.0005}}
    return write_yaml(folder / "hypes.yaml", content)


@pytest.fixture(scope="module")
def run(clone, tmp_path_factory) -> Path:
    """A heterogeneous detector after two steps."""
    folder = tmp_path_factory.mktemp("v2xreal")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        options = TrainingOptions(run_dir=folder / "run", device="cpu", workers=0)
        return run_training(hypes(folder, "heter"), options=options)


def test_the_tool_writes_figures_by_class_and_distance(run, clone, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(clone)
    kept = tmp_path / "boxes.npz"
    inference_v2xreal.main(["--model_dir", str(run), "--save_detections", str(kept), *QUIET])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*CLASSES, "short", "middle", "long"))
    for stem, variant in (("global_sort", "global_sort"), ("", "frame_order")):
        (file,) = run.glob(f"{stem}_intermediate*_eval.yaml")
        content = yaml.safe_load(file.read_text())
        assert list(content) == CLASSES and set(content["truck"]) == {0.3, 0.5, 0.7}
        again = evaluate_file(kept, EvaluationOptions(thresholds=(0.3, 0.5), variant=variant, bands="published"))
        for name in CLASSES:
            assert content[name][0.5]["ap"] == pytest.approx(again.by_class[name][variant][0.5].ap)
    (report,) = run.glob("eval_global_sort_intermediate*.yaml")
    content = yaml.safe_load(report.read_text())
    assert list(content["ap_by_range"]) == ["short", "middle", "long", "all"]
    known = [content["ap_by_class"][name]["global_sort"]["0.5"] for name in CLASSES]
    assert content["ap_50"] == pytest.approx(sum(known) / 3)
    assert set(DetectionSet.load(kept).labels) == {1, 2, 3}


def test_agents_enter_in_order(run, clone, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(clone)
    command = ["--model_dir", str(run), "--use_cav", "[1,2]", "--save_detections", str(tmp_path / "boxes.npz")]
    inference_v2xreal_heter_in_order.main([*command, *QUIET])
    assert "--- 2 agents" in capsys.readouterr().out
    counts = []
    for agents in (1, 2):
        assert list(run.glob(f"_intermediate*_use_cav{agents}_eval.yaml"))
        counts.append(DetectionSet.load(tmp_path / f"boxes_use_cav{agents}.npz").ground_truth_count)
    assert counts[0] == counts[1] > 0  # the ground truth is that of all agents


def test_learning_by_heart_judges_each_class_by_itself(clone, monkeypatch, tmp_path):
    monkeypatch.chdir(clone)
    report = run_overfit(hypes(tmp_path, "intermediate"), None, 1, 25, TrainingOptions(device="cpu", workers=0))
    assert 0 <= report.ap < 0.99 and report.boxes > 10
    assert 0 < len(report.unreached) <= report.boxes
    causes = " ".join(str(one) for one in report.unreached)
    assert "not learned" in causes or "score" in causes
