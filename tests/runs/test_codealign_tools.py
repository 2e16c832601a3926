"""CodeAlign's inference tools on simulated data: pairs of modalities, agents in order, late fusion, noise, folders."""

import csv
import json

import pytest
import torch
import yaml

from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.errors import CheckpointError, ConfigError
from opencood.experiments.build import build_dataset
from opencood.experiments.inference import run_inference
from opencood.experiments.run_folder import open_run_folder
from opencood.experiments.session import InferenceOptions
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.task_average import PairOptions, modality_pairs, pairs_of, run_task_average, with_pair
from opencood.experiments.training import TrainingOptions, run_training
from opencood.tools import inference_heter_in_order, inference_heter_task, inference_heter_task_average
from tests.runs.codealign_hypes import CELLS, late, on_opv2v, run_folder

QUIET = ["--workers", "0", "--device", "cpu", "--no_vis", "--limit", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sim"
    simulate(SimulationOptions(out=folder, preset="mini", scenarios=(1, 1, 1), seed=5))
    return folder


@pytest.fixture(scope="module")
def translating(data, tmp_path_factory):
    """A run folder of stage 2: m2 alone trains, into the words of m1."""
    folder = tmp_path_factory.mktemp("c2c")
    return run_folder(folder / "run", on_opv2v(folder / "hypes.yaml", "stage2/m2_to_m1", data), 3)


def result(folder, name):
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


# --- pairs of modalities --------------------------------------------------------------------------------------------


def test_pairs_follow_backends_then_groups_then_the_ego_modalities():
    assert modality_pairs([["m7"]], ["m7"], ["m1", "m6"]) == [("m1", "m7"), ("m6", "m7")]
    assert modality_pairs([], ["m1", "m3"]) == [("m1", "m3"), ("m3", "m1")]
    assert modality_pairs([["m1"], ["m2"], ["m3"]], ["m1"])[:3] == [("m1", "m2"), ("m1", "m3"), ("m2", "m3")]
    assert len(modality_pairs([["m1"], ["m2"], ["m3"]], ["m1"])) == 6
    heter = {"ego_modality": "m2", "heter_group": [["m2"]]}
    args = {"backend_modality": "m1"}
    assert pairs_of({"heter": heter, "model": {"args": args}}) == [("m1", "m2")]
    assert pairs_of({"heter": heter, "model": {"args": args}}, exchanged=True) == [("m1", "m2"), ("m2", "m1")]
    with pytest.raises(ConfigError, match="leaves no pair"):
        pairs_of({"heter": {"ego_modality": "m1", "heter_group": [["m1"], ["m1"]]}})
    with pytest.raises(ConfigError, match="heter: the configuration has no such section"):
        pairs_of({"model": {}})


def test_a_pair_gives_the_first_agent_one_modality_and_all_others_another(translating):
    hypes, _ = open_run_folder(translating)
    hypes = with_pair(hypes, ("m1", "m2"), score_threshold=0.3)
    assert hypes["postprocess"]["target_args"]["score_threshold"] == 0.3
    dataset = build_dataset(hypes, train=False)
    names = dataset.collate_batch_test([dataset[0]])["ego"]["agent_modality_list"]
    assert len(names) > 1 and names == ["m1", *["m2"] * (len(names) - 1)]
    with pytest.raises(ConfigError, match=r"heter\.pair: expected two of the modalities"):
        build_dataset(with_pair(hypes, ("m1", "m9")), train=False)


@pytest.mark.slow
def test_every_pair_has_a_result_file_and_the_mean_has_its_own(translating, capsys):
    inference_heter_task_average.main(["--model_dir", str(translating), "--fusion_method", "intermediate", *QUIET])
    text = capsys.readouterr().out
    name = "eval_intermediate_25.6_25.6_epoch3_noise0.0_m1_m2"
    assert "ego m1, others m2" in text and f"{name}.yaml" in text
    found = result(translating, name)
    average = json.loads((translating / "eval_average.json").read_text())
    assert average == {
        f"Average Precision at IOU {t}": round(found[key], 6)
        for t, key in ((0.3, "ap30"), (0.5, "ap_50"), (0.7, "ap_70"))
    }
    (pair, mean) = csv.DictReader((translating / "eval_average.csv").open())
    assert (pair["ego"], pair["others"], mean["ego"]) == ("m1", "m2", "average")
    sent = float(pair["bytes_per_frame"])
    assert sent == pytest.approx(found["megabits_per_frame"] * 1e6 / 8)
    # one collaborator or two, a word of 16 in every cell, and a header each
    assert any(n * CELLS / 2 < sent < n * (CELLS / 2 + 200) for n in (1, 2))
    assert "bytes_per_frame" in text and "average" in text


@pytest.mark.slow
def test_published_switches_of_the_pair_average(translating, tmp_path, capsys):
    arguments = ["--model_dir", str(translating), "--output_dir", str(tmp_path / "out"), *QUIET]
    switches = ["--all", "--noise", "0.2", "--score_threshold", "0.4", "--show_bev", "--aggregation", "nms"]
    inference_heter_task.main([*arguments, *switches])
    text = capsys.readouterr().out
    assert "--show_bev, --aggregation ignored" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = "eval_intermediate_25.6_25.6_epoch3_all_noise0.2"
    assert names == {f"{stem}_m1_m2.yaml", f"{stem}_m2_m1.yaml", "eval_average.json", "eval_average.csv"}
    protocol = result(tmp_path / "out", f"{stem}_m1_m2")["protocol"]
    assert protocol["score_threshold"] == 0.4
    assert protocol["noise_setting"]["args"]["pos_std"] == protocol["noise_setting"]["args"]["rot_std"] == 0.2
    inference_heter_task_average.main([*arguments, "--data_only"])
    assert "ego m1, others m2: 1 frames can be read" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        inference_heter_task_average.main([*arguments, "--task", "segmentation"])


def test_the_published_score_threshold_is_that_of_published_files(translating):
    fixed, _ = open_run_folder(translating)
    fixed["postprocess"]["target_args"]["score_threshold"] = 0.35
    assert with_pair(fixed, ("m1", "m2"))["postprocess"]["target_args"]["score_threshold"] == 0.35
    published = fixed.replaced({**fixed, "parity": "published"})
    assert with_pair(published, ("m1", "m2"))["postprocess"]["target_args"]["score_threshold"] == 0.2


# --- agents in order ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_agents_of_a_backend_may_be_ego_although_the_file_trains_others(translating, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    inference_heter_in_order.main(
        ["--model_dir", str(translating), "--fusion_method", "intermediate", "--range", "25.6,25.6",
         "--use_cav", "[2,1]", "--noise", "0.2", "--output_dir", str(tmp_path / "out"), *QUIET]
    )  # fmt: skip
    text = capsys.readouterr().out
    stem = "eval_pos_0.2_rot_0.2_25.6_25.6_epoch3"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{stem}_use_cav2.yaml", f"{stem}_use_cav1.yaml", f"{stem}_in_order.csv"}
    rows = list(csv.DictReader((tmp_path / "out" / f"{stem}_in_order.csv").open()))
    assert [row["agents"] for row in rows] == ["2 agents", "1 agent"]
    assert float(rows[0]["bytes_per_frame"]) > CELLS / 2 > float(rows[1]["bytes_per_frame"]) == 0
    assert rows[0]["ap50"] == str(result(tmp_path / "out", f"{stem}_use_cav2")["ap_50"])
    assert "2 agents" in text.splitlines()[-3]


@pytest.mark.slow
def test_late_fusion_in_order(data, tmp_path):
    run = run_folder(tmp_path / "late", late(tmp_path / "late.yaml", data))
    inference_heter_in_order.main(["--model_dir", str(run), "--fusion_method", "late", "--use_cav", "[2]", *QUIET])
    found = result(run, "eval_late_25.6_25.6_epoch1_use_cav2")
    assert found["frames"] == 1 and found["ground_truths"] > 0


# --- weights of earlier stages --------------------------------------------------------------------------------------


def with_paths(tmp_path, data, lost):
    """A run folder whose checkpoint has no encoder of m1, which its file takes from stage 0."""
    stage0 = on_opv2v(tmp_path / "m1.yaml", "stage0/m1", data)
    run_folder(tmp_path / "m1", stage0)
    path = "m1/net_epoch1.pth" if not lost else "m1/gone.pth"
    changes = {"model": {"args": {"m1": {"model_path": path}}}}
    run = run_folder(tmp_path, on_opv2v(tmp_path / "hypes.yaml", "stage2/m2_to_m1", data, **changes), 2)
    state = torch.load(run / "net_epoch2.pth")
    kept = {key: value for key, value in state.items() if not key.startswith(("encoder_m1", "backbone_m1"))}
    torch.save(kept, run / "net_epoch2.pth")
    for name in ("hypes.yaml", "hypes_base.yaml", "m1.yaml", "m1_base.yaml"):
        (tmp_path / name).unlink()
    return run


@pytest.mark.slow
def test_what_the_checkpoint_lacks_comes_from_the_earlier_stage_beside_the_yaml(data, tmp_path):
    run = with_paths(tmp_path, data, lost=False)
    options = InferenceOptions(run, workers=0, progress=False, device="cpu", save_vis_interval=0, limit=1)
    ((pair, report),) = run_task_average(options, PairOptions())
    assert pair == ("m1", "m2") and report.frames == 1


@pytest.mark.slow
def test_what_is_in_neither_is_refused_instead_of_tested_at_random(data, tmp_path):
    run = with_paths(tmp_path, data, lost=True)
    options = InferenceOptions(run, workers=0, progress=False, device="cpu", save_vis_interval=0, limit=1)
    with pytest.raises(CheckpointError, match=r"has no weights of encoder_m1 \(m1/gone\.pth\), backbone_m1"):
        next(run_task_average(options, PairOptions()))


@pytest.mark.slow
def test_a_deployed_folder_holds_a_configuration_and_nothing_else(data, tmp_path):
    for m in ("m1", "m2"):
        run_folder(tmp_path / m, on_opv2v(tmp_path / f"{m}.yaml", f"stage1/{m}", data))
    run_folder(tmp_path / "c2c", on_opv2v(tmp_path / "c2c.yaml", "stage2/m2_to_m1", data))
    path = {name: str(tmp_path / name / "net_epoch1.pth") for name in ("m1", "m2", "c2c")}
    args = {
        "m1": {"model_path": path["m1"]},
        "m2": {"model_path": path["m2"]},
        "load_aligner": {"m1": path["m1"], "m2": path["m2"]},
        "load_translator": {"m2": path["c2c"]},
        "backend": {"m1": path["m1"]},
    }
    run = tmp_path / "deployed"
    save_config(on_opv2v(tmp_path / "infer.yaml", "infer/m1m2", data, model={"args": args}), run)
    command = ["--model_dir", str(run), "--use_cav", "[2]", *QUIET]
    inference_heter_in_order.main(command)
    found = result(run, "eval_intermediate_25.6_25.6_epoch0_use_cav2")
    assert found["megabits_per_frame"] > CELLS * 4e-6
    (tmp_path / "c2c" / "net_epoch1.pth").unlink()
    with pytest.raises(
        CheckpointError, match=r"missing checkpoints: .*net_epoch1\.pth \(model\.args\.load_translator\.m2"
    ):
        inference_heter_in_order.main(command)


# --- boxes of agents of one detector --------------------------------------------------------------------------------


@pytest.mark.slow
def test_late_heter_joins_what_every_agent_of_a_sample_finds_by_itself(data, tmp_path):
    alike = {"mapping_dict": {"m2": "m1", "m4": "m1"}}
    run = run_folder(tmp_path / "run", on_opv2v(tmp_path / "hypes.yaml", "stage0/m1", data, heter=alike))
    quiet = {"workers": 0, "progress": False, "device": "cpu", "save_vis_interval": 0, "limit": 1}
    both = [run_inference(InferenceOptions(run, "late_heter", agents=k, **quiet)) for k in (1, 9)]
    alone = run_inference(InferenceOptions(run, "intermediate", agents=1, **quiet))
    assert both[0].detections == alone.detections and both[0].megabits_per_frame == 0
    assert both[1].megabits_per_frame > 0 and both[1].ground_truths == alone.ground_truths
    assert (run / "eval_late_heter_25.6_25.6_epoch1_use_cav1.yaml").is_file()
    flat = run_folder(tmp_path / "flat", late(tmp_path / "late.yaml", data))
    with pytest.raises(ConfigError, match="late_heter contradicts the configuration"):
        run_inference(InferenceOptions(flat, "late_heter", **quiet))


def test_a_missing_checkpoint_is_told_before_data_are_looked_for(tmp_path):
    lost = {"model": {"args": {"m1": {"model_path": "gone.pth"}}}}
    hypes = on_opv2v(tmp_path / "hypes.yaml", "stage1/m1", tmp_path / "no_data", **lost)
    with pytest.raises(CheckpointError, match=r"gone\.pth \(model\.args\.m1\.model_path\)"):
        run_training(hypes.path, options=TrainingOptions(run_dir=tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_goes_on_although_the_file_of_the_earlier_stage_is_gone(data, tmp_path):
    run_folder(tmp_path / "m1", on_opv2v(tmp_path / "m1.yaml", "stage0/m1", data))
    stage0 = {"model": {"args": {"m1": {"model_path": "m1/net_epoch1.pth"}}}}
    hypes = on_opv2v(tmp_path / "hypes.yaml", "stage1/m1", data, **stage0)
    options = TrainingOptions(run_dir=tmp_path / "run", device="cpu", sanity_frames=0)
    run = run_training(hypes.path, options=options)
    (tmp_path / "m1" / "net_epoch1.pth").unlink()
    before = torch.load(run / "net_epoch1.pth")
    longer = load_yaml(None, model_dir=run)
    save_config({**longer, "train_params": {**longer["train_params"], "epoches": 2}}, run)
    run_training(None, run, TrainingOptions(device="cpu", sanity_frames=0))
    after = torch.load(run / "net_epoch2.pth")
    assert all(torch.equal(after[key], before[key]) for key in before if key.startswith("encoder_m1"))
