"""Agents that enter one after the other: choices, result files, and the command line as published."""

import csv
import json
from pathlib import Path

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.overrides import with_range
from opencood.config.save import save_config
from opencood.errors import ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments import sweep
from opencood.experiments.build import build_dataset, build_model
from opencood.experiments.in_order import Entrance, entrances, in_order_keys, parse_use_cav, run_in_order
from opencood.experiments.run_folder import open_run_folder
from opencood.experiments.session import InferenceOptions
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.tools import inference_heter_in_order as tool
from opencood.tools import sweep as sweep_tool

SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]
QUIET = {"workers": 0, "progress": False, "device": "cpu", "save_vis_interval": 0}


@pytest.mark.parametrize(
    ("text", "numbers"), [("[1,2,3,4]", (1, 2, 3, 4)), ("2,3", (2, 3)), ("[ 2 ]", (2,)), ("3", (3,)), ("[2,2]", (2,))]
)
def test_use_cav(text, numbers):
    assert parse_use_cav(text) == numbers


@pytest.mark.parametrize("text", ["", "[]", "[0]", "[1;2]", "all", "[1,,2]"])
def test_bad_use_cav(text):
    with pytest.raises(ConfigError, match="--use_cav"):
        parse_use_cav(text)


def test_degraded_beams_replace_the_numbers():
    assert [(e.agents, e.degraded) for e in entrances((1, 2), True)] == [(4, "_m1_32_m3_16"), (4, "_m1_16_m3_16")]


@pytest.mark.parametrize(
    ("parity", "mapping", "beams"),
    [("published", {"m1": "m1", "m2": "m2", "m3": "m3", "m4": "m4"}, {"m3": 32}), ("fixed", {"m1": "m3"}, {"m1": 16})],
)
def test_what_the_tool_changes(parity, mapping, beams):
    heter = {"assignment_path": "x/opv2v_4modality.json", "ego_modality": "m1&m3", "mapping_dict": {"m1": "m3"},
             "lidar_channels_dict": {"m1": 16}, "modality_setting": {"m1": {}, "m3": {}}}  # fmt: skip
    hypes = {"heter": heter, "fusion": {"core_method": "intermediateheter"}, "parity": parity, "comm_range": 70}
    changes = in_order_keys(hypes, Entrance(2))
    assert (changes["heter"]["mapping_dict"], changes["heter"]["lidar_channels_dict"]) == (mapping, beams)
    assert changes["heter"]["assignment_path"] == "x/opv2v_4modality_in_order.json"
    assert changes["heter"]["ego_modality"] == "m1"
    assert (changes["fusion"]["core_method"], changes["use_cav"]) == ("intermediateheterinfer", 2)
    assert changes["comm_range"] == 180
    assert heter["ego_modality"] == "m1&m3"  # the configuration itself stays
    assert in_order_keys(hypes, Entrance(4, {"m1": 32}))["heter"]["lidar_channels_dict"] == {"m1": 32}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """Random weights of two LiDAR modalities, on simulated data with an assignment of their own."""
    out = tmp_path_factory.mktemp("in_order")
    simulate(SimulationOptions(out=out / "data", preset="mini", seed=5))
    splits = {key: str(out / "data" / split) for key, split in
              (("root_dir", "train"), ("validate_dir", "validate"), ("test_dir", "test"))}  # fmt: skip
    agents = {folder.name: sorted(p.name for p in folder.iterdir() if p.is_dir())
              for folder in (out / "data" / "test").iterdir() if folder.is_dir()}  # fmt: skip
    table = {scenario: {a: ("m1", "m3")[k % 2] for k, a in enumerate(names)} for scenario, names in agents.items()}
    (out / "assign_in_order.json").write_text(json.dumps(table))
    base = with_range(load_yaml(SHIPPED / "sim" / "intermediate.yaml"), 25.6, 25.6)
    heter = {
        "assignment_path": str(out / "assign.json"),
        "mapping_dict": {"m1": "m1", "m2": "m2", "m3": "m3", "m4": "m4"},
        "modality_setting": {"m3": base["heter"]["modality_setting"]["m1"]},
        "lidar_channels_dict": {},
    }
    content = {
        "_base_": str(SHIPPED / "sim" / "intermediate.yaml"),
        "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL},
        "heter": heter,
        "model": {"args": {"m3": {**base["model"]["args"]["m1"]}}},
        **splits,
    }
    hypes = load_yaml(write_yaml(out / "hypes.yaml", content))
    save_config(hypes, out / "run")
    torch.manual_seed(0)
    torch.save(build_model(hypes).state_dict(), out / "run" / "net_epoch2.pth")
    return out / "run"


def test_only_the_first_agents_are_encoded_and_all_objects_count(run_folder):
    lengths, truths = [], []
    for agents in (1, 2, 3):
        hypes, _ = open_run_folder(run_folder, edit=lambda h, k=agents: in_order_keys(h, Entrance(k)))
        dataset = build_dataset(hypes, train=False, visualize=True)
        batch = dataset.collate_batch_test([dataset[0]])
        lengths.append(int(batch["ego"]["record_len"][0]))
        truths.append(len(dataset.post_processor.generate_gt_bbx(batch)))
        assert batch["ego"]["agent_modality_list"] == ["m1", "m3", "m1"][: lengths[-1]]
    assert lengths[:2] == [1, 2]
    assert len(set(truths)) == 1


@pytest.mark.slow
def test_one_result_file_for_each_number_of_agents(run_folder):
    reports = list(run_in_order(InferenceOptions(run_folder, limit=1, **QUIET), (1, 2)))
    names = [Path(report.files[-1]).name for _, report in reports]
    assert names == [f"eval_intermediate_25.6_25.6_epoch2_use_cav{k}.yaml" for k in (1, 2)]
    alone, together = (report for _, report in reports)
    assert alone.ground_truths == together.ground_truths
    assert alone.megabits_per_frame == 0 < together.megabits_per_frame
    with pytest.raises(ConfigError, match="--use_cav"):
        next(run_in_order(InferenceOptions(run_folder, agents=2, **QUIET)))


@pytest.mark.slow
@pytest.mark.parametrize("words", [["[2,1]"], ["[2,", "1]"]])
def test_the_command_line_takes_the_list_with_and_without_quotes(run_folder, capsys, words):
    quiet = ["--limit", "1", "--workers", "0", "--device", "cpu", "--no_vis", "--save_npy"]
    tool.main(["--model_dir", str(run_folder), "--use_cav", *words, *quiet])
    text = capsys.readouterr().out
    assert text.index("--- 2 agents") < text.index("--- 1 agent\n")
    assert "--save_npy is ignored" in text


@pytest.mark.slow
def test_a_sweep_in_order_is_the_same_evaluation(run_folder, tmp_path, monkeypatch):
    options = InferenceOptions(run_folder, limit=1, **QUIET)
    expected = {entrance.agents: report for entrance, report in run_in_order(options, (1, 2))}
    command = ["--model_dir", str(run_folder), "--in_order", "--agents", "1-2", "--limit", "1", "--workers", "0",
               "--device", "cpu", "--names", "run", "--out", str(tmp_path / "out")]  # fmt: skip
    assert sweep_tool.main([*command, "--publish", str(tmp_path / "kept")]) == 0
    with (tmp_path / "out" / "table.csv").open() as handle:
        rows = {row["agents"]: row for row in csv.DictReader(handle)}
    assert set(rows) == {"all", "1", "2"}
    for agents, report in expected.items():
        assert float(rows[str(agents)]["megabits/frame"]) == pytest.approx(report.megabits_per_frame, rel=1e-4)
        assert int(rows[str(agents)]["ground truths"]) == report.ground_truths
    assert "--agents 1-2 --limit 1 --in_order" in (tmp_path / "kept" / "run.yaml").read_text()

    made = []
    monkeypatch.setattr(sweep, "run_inference", made.append)
    assert sweep_tool.main(command) == 0
    assert made == []
