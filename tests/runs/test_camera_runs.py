"""Whole runs with cameras on simulated data: training, evaluation, the control with swapped pictures, with LiDAR."""

from pathlib import Path

import numpy as np
import pytest

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.errors import ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_dataset
from opencood.experiments.camera_control import OtherPictures, run_camera_control
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.training import TrainingOptions, run_training
from opencood.tools.camera_control import main

pytestmark = pytest.mark.slow
QUIET = {"workers": 0, "device": "cpu"}
SHORT = {"train_params": {"epoches": 1, "eval_freq": 1, "save_freq": 1, "batch_size": 2, "max_train_batches": 2}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sim") / "data"
    simulate(SimulationOptions(folder, "mini", scenarios=(2, 1, 1), agents=(2, 2), seed=5, cameras=True))
    return folder


@pytest.fixture(scope="module")
def configure(data, tmp_path_factory):
    """A function that writes a configuration based on a shipped one, for the simulated data."""

    def write(detector: str, **changes) -> Path:
        folder = tmp_path_factory.mktemp(detector)
        splits = {key: str(data / split) for key, split in
                  (("root_dir", "train"), ("validate_dir", "validate"), ("test_dir", "test"))}  # fmt: skip
        content = {"_base_": str(SHIPPED / "sim" / f"{detector}.yaml"), **splits, **SHORT, **changes}
        return write_yaml(folder / "hypes.yaml", content)

    return write


@pytest.fixture(scope="module")
def camera_run(configure, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "camera"
    return run_training(configure("camera"), options=TrainingOptions(run_dir=folder, evaluate=False, **QUIET))


@pytest.mark.parametrize("method", ["late", "single"])
def test_a_camera_detector_trains_and_is_evaluated(camera_run, method):
    assert "Depth Loss" in (camera_run / "log.log").read_text()
    report = run_inference(
        InferenceOptions(camera_run, fusion_method=method, save_vis_interval=0, progress=False, **QUIET)
    )
    assert report.frames == 2 and report.ground_truths > 0
    assert 0 <= report.ap(0.5) <= 1


def test_the_control_swaps_pictures_and_nothing_else(camera_run, configure, capsys):
    hypes = load_yaml(configure("camera"))
    data = build_dataset(hypes, train=False)
    own = [data.frame(index) for index in range(len(data))]
    other = OtherPictures(data.reader)
    assert len(other) == 2
    for index in range(2):
        for agent, before, donor in zip(
            other.frame(index).agents, own[index].agents, own[1 - index].agents, strict=True
        ):
            assert agent.id == before.id and (agent.objects.ids == before.objects.ids).all()
            for camera, mine, theirs in zip(agent.cameras, before.cameras, donor.cameras, strict=True):
                assert camera.image == theirs.image != mine.image
                assert (camera.to_lidar == mine.to_lidar).all() and (camera.intrinsic == mine.intrinsic).all()

    main(["--model_dir", str(camera_run), "--fusion_method", "single", "--workers", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["own pictures", "pictures of other frames"]
    assert all("AP@0.5 0." in line or "AP@0.5 1." in line for line in lines)


def test_the_control_refuses_data_without_pictures(configure, tmp_path):
    simulate(SimulationOptions(tmp_path / "data", "mini", scenarios=(1, 0, 1), agents=(1, 1), frames=2))
    hypes = configure("late", test_dir=str(tmp_path / "data" / "test"))
    run = run_training(hypes, options=TrainingOptions(run_dir=tmp_path / "run", evaluate=False, **QUIET))
    with pytest.raises(ConfigError, match="--cameras"):
        run_camera_control(InferenceOptions(run, progress=False, **QUIET))


def test_lidar_and_camera_agents_work_together(configure, data, tmp_path):
    camera = load_yaml(SHIPPED / "sim" / "camera.yaml")
    own = {
        key: value for key, value in camera["model"]["args"]["m2"].items() if key not in ("layers_args", "head_args")
    }
    # Cells of 0.4 m become the 1.6 m of the LiDAR's map.
    levels = {"inplanes": 32, "layer_nums": [1], "layer_strides": [4], "num_filters": [48],
              "upsample_strides": [1], "num_upsample_filter": [96]}  # fmt: skip
    hypes = configure(
        "intermediate",
        input_source=["lidar", "camera", "depth"],
        heter={
            "assignment_path": str(data / "opv2v_4modality_in_order.json"),
            "mapping_dict": {"m1": "m1", "m2": "m2", "m3": "m1", "m4": "m2"},
            "ego_modality": "m1&m2",
            "modality_setting": {"m2": camera["heter"]["modality_setting"]["m2"]},
        },
        fusion={"args": {"proj_first": False}},
        model={"args": {"ego_modality": "m1&m2", "m2": {**own, "backbone_args": levels}}},
    )
    folder = run_training(hypes, options=TrainingOptions(run_dir=tmp_path / "run", evaluate=False, **QUIET))
    report = run_inference(InferenceOptions(folder, save_vis_interval=0, progress=False, **QUIET))
    assert report.frames == 2 and report.ground_truths > 0
    assert report.megabits_per_frame is not None and report.megabits_per_frame > 0
    batch = build_dataset(load_yaml(None, model_dir=folder), train=False)
    ego = batch.collate_batch_test([batch[0]])["ego"]
    assert {"inputs_m1", "inputs_m2"} <= set(ego) and sorted(set(ego["agent_modality_list"])) == ["m1", "m2"]
    assert np.isfinite(report.ap(0.5))
