"""Whole evaluations on simulated data: folder in, report, result files and pictures out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_model
from opencood.experiments.delay import run_delay_sweep
from opencood.experiments.evaluate import evaluate_file
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.noise import run_noise_sweep
from opencood.experiments.simulate import SimulationOptions, simulate

pytestmark = pytest.mark.slow
QUIET = {"workers": 0, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sim") / "data"
    simulate(SimulationOptions(out=folder, preset="mini", seed=5))
    return folder


@pytest.fixture(scope="module")
def make_run(data, tmp_path_factory):
    """A function that makes a run folder with fixed random weights whose scores pass the threshold."""

    def make(detector: str, **changes) -> Path:
        folder = tmp_path_factory.mktemp(detector)
        splits = {key: str(data / split) for key, split in
                  (("root_dir", "train"), ("validate_dir", "validate"), ("test_dir", "test"))}  # fmt: skip
        content = {"_base_": str(SHIPPED / "sim" / f"{detector}.yaml"), **splits, **changes}
        hypes = load_yaml(write_yaml(folder.parent / f"{folder.name}.yaml", content))
        save_config(hypes, folder)
        torch.manual_seed(0)
        model = build_model(hypes)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "cls_head" in name and name.endswith("bias"):
                    parameter.fill_(-1.1)
        torch.save(model.state_dict(), folder / "net_epoch3.pth")
        return folder

    return make


@pytest.fixture(scope="module")
def runs(make_run) -> dict[str, Path]:
    return {detector: make_run(detector) for detector in ("late", "early", "intermediate")}


@pytest.mark.parametrize(
    ("detector", "method"),
    [("late", "late"), ("late", "no"), ("late", "single"), ("early", "early"), ("intermediate", "intermediate")],
)
def test_every_fusion_method_reports(runs, tmp_path, detector, method):
    kept = tmp_path / "boxes.npz"
    report = run_inference(
        InferenceOptions(runs[detector], fusion_method=method, save_vis_interval=2, save_detections=kept, **QUIET)
    )
    assert report.frames == 4
    assert report.frames_per_second > 0
    assert (report.megabits_per_frame is None) == (method in ("no", "single"))
    content = yaml.safe_load(Path(report.files[-1]).read_text())
    assert {"ap30", "ap_50", "ap_70", "mpre_50", "mrec_50"} <= set(content)
    protocol = content["protocol"]
    assert protocol["fusion_method"] == method
    assert protocol["checkpoint"]["file"].endswith("net_epoch3.pth")
    assert len(protocol["checkpoint"]["sha256"]) == len(protocol["config"]["sha256"]) == 64
    assert protocol["parity"] == "fixed"
    assert protocol["range"]["used"] == protocol["range"]["configured"]
    pictures = sorted(runs[detector].glob(f"vis_{method}*/bev_*.png"))
    assert [picture.name for picture in pictures] == ["bev_00000.png", "bev_00002.png"]
    assert Image.open(pictures[0]).width > 500

    again = evaluate_file(kept)
    assert again.published() == report.published()
    assert again.megabits_per_frame == report.megabits_per_frame


def test_ground_truth_is_that_of_all_agents_except_for_single(runs):
    counts = {
        method: run_inference(InferenceOptions(runs["late"], method, save_vis_interval=0, **QUIET)).ground_truths
        for method in ("no", "late", "single")
    }
    assert counts["no"] == counts["late"] > counts["single"] > 0


@pytest.mark.parametrize("detector", ["late", "early", "intermediate"])
def test_agents_ego_keeps_the_ground_truth_and_sends_nothing(runs, detector):
    everyone = run_inference(InferenceOptions(runs[detector], save_vis_interval=0, **QUIET))
    alone = run_inference(InferenceOptions(runs[detector], agents="ego", save_vis_interval=0, **QUIET))
    assert alone.ground_truths == everyone.ground_truths
    assert alone.megabits_per_frame == 0.0
    assert everyone.megabits_per_frame > 0
    assert any("use_cav1" in file for file in alone.files)


@pytest.mark.parametrize("detector", ["late", "early", "intermediate"])
def test_a_worse_channel_is_met_by_every_way_of_fusing(runs, tmp_path, detector):
    def boxes(name, **changes):
        kept = tmp_path / f"{name}.npz"
        report = run_inference(
            InferenceOptions(runs[detector], save_vis_interval=0, save_detections=kept, **QUIET, **changes)
        )
        return report, [frame.boxes for frame in DetectionSet.load(kept)]

    plain, all_heard = boxes("plain")
    _, alone = boxes("alone", agents="ego")
    lost, nothing_heard = boxes("lost", channel={"drop": 1.0})
    assert all(map(np.array_equal, nothing_heard, alone))
    assert lost.megabits_per_frame == pytest.approx(plain.megabits_per_frame)  # sent all the same
    assert lost.protocol["channel"] == {"drop": 1.0} and any("messages sent" in note for note in lost.notes)
    assert any("drop_1" in file for file in lost.files)
    short, _ = boxes("short", channel={"precision": "int8"})
    assert short.megabits_per_frame < plain.megabits_per_frame
    half, some_heard = boxes("half", channel={"drop": 0.5})
    assert not all(map(np.array_equal, some_heard, all_heard)) and not all(map(np.array_equal, some_heard, alone))
    budget = {"late": 1.0, "early": 8.0, "intermediate": 8.0}[detector]  # kilobytes, less than they send
    thrifty, _ = boxes("thrifty", channel={"budget": budget})
    assert 0 < thrifty.megabits_per_frame < plain.megabits_per_frame


def test_late_with_the_ego_alone_is_no_fusion(runs, tmp_path):
    files = [tmp_path / "no.npz", tmp_path / "ego.npz"]
    run_inference(InferenceOptions(runs["late"], "no", save_vis_interval=0, save_detections=files[0], **QUIET))
    run_inference(InferenceOptions(runs["late"], agents="ego", save_vis_interval=0, save_detections=files[1], **QUIET))
    for one, other in zip(*map(DetectionSet.load, files), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_workers_change_nothing(runs):
    reports = [
        run_inference(InferenceOptions(runs["intermediate"], save_vis_interval=0, **(QUIET | {"workers": workers})))
        for workers in (0, 2)
    ]
    assert reports[0].published() == reports[1].published()


def test_range_limit_and_arrays(runs):
    options = InferenceOptions(
        runs["intermediate"], range_xy="25.6,25.6", limit=1, save_npy=True, no_score=True, note="_near", **QUIET
    )
    report = run_inference(options)
    assert report.frames == 1
    assert any("configuration says" in note for note in report.notes)
    assert Path(report.files[0]).name == "eval_intermediate_near_25.6_25.6_epoch3.yaml"
    arrays = {path.name: np.load(path) for path in (runs["intermediate"] / "npy").iterdir()}
    assert set(arrays) == {"0000_pcd.npy", "0000_pred.npy", "0000_gt.npy"}
    assert np.abs(arrays["0000_gt.npy"][..., :2]).max() <= 25.6


def test_published_parity_takes_the_published_range_and_says_so(make_run):
    report = run_inference(
        InferenceOptions(make_run("intermediate"), limit=1, parity="published", save_vis_interval=0, **QUIET)
    )
    assert report.protocol["range"]["used"][3:5] == [102.4, 102.4]
    assert any("published default of heal" in note for note in report.notes)


def test_noise_sweep_is_repeatable_and_starts_clean(runs, tmp_path):
    options = InferenceOptions(runs["intermediate"], save_vis_interval=0, limit=2, **QUIET)
    plain = run_inference(options)
    kept = tmp_path / "boxes.npz"
    first, laplace = run_noise_sweep(replace(options, save_detections=kept), also_laplace=True)
    (again,) = run_noise_sweep(options)
    assert list(first.reports) == [0.0, 0.2, 0.4, 0.6]
    assert first.reports[0.0].published() == plain.published()
    summary = yaml.safe_load((runs["intermediate"] / "AP030507.yaml").read_text())
    assert summary["ap50"] == [report.ap(0.5) for report in first.reports.values()]
    assert [r.published() for r in first.reports.values()] == [r.published() for r in again.reports.values()]
    assert Path(laplace.files[0]).name == "AP030507_laplace.yaml"
    again_from_file = evaluate_file(tmp_path / "boxes_0.4_0.4_0_0_intermediate_laplace.npz")
    assert again_from_file.published() == laplace.reports[0.4].published()
    assert len(list(tmp_path.glob("boxes_*.npz"))) == 8


def test_delay_sweep_summarises_both_variants_apart(make_run, tmp_path):
    folder = make_run("intermediate", flavor="gencomm")
    options = InferenceOptions(folder, save_vis_interval=0, limit=1, save_detections=tmp_path / "boxes.npz", **QUIET)
    sweep = run_delay_sweep(options)
    assert list(sweep.reports) == [100, 200, 300, 400, 500]
    assert [Path(file).name for file in sweep.files] == ["AP030507_delay_w_gs.yaml", "AP030507_delay_wo_gs.yaml"]
    for file, variant in zip(sweep.files, ("global_sort", "frame_order"), strict=True):
        content = yaml.safe_load(Path(file).read_text())
        assert content["ap50"] == [report.ap(0.5, variant) for report in sweep.reports.values()]
        assert content["levels"] == [100, 200, 300, 400, 500]
    assert len(list(tmp_path.glob("boxes_delay_*.npz"))) == 5


def test_no_checkpoint_is_an_error_unless_asked_for(make_run):
    folder = make_run("late")
    (folder / "net_epoch3.pth").unlink()
    with pytest.raises(CheckpointError, match="--untrained"):
        run_inference(InferenceOptions(folder, **QUIET))
    report = run_inference(InferenceOptions(folder, untrained=True, limit=1, save_vis_interval=0, **QUIET))
    assert report.protocol["checkpoint"] is None


def test_missing_folder_and_contradictions(runs, tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        run_inference(InferenceOptions(tmp_path / "nowhere", **QUIET))
    with pytest.raises(ConfigError, match="--agents ego"):
        run_inference(InferenceOptions(runs["intermediate"], "late", **QUIET))
    with pytest.raises(ConfigError, match="--range"):
        run_inference(InferenceOptions(runs["intermediate"], range_xy="wide", **QUIET))
