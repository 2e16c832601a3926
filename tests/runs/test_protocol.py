"""The protocol of CooPre's figures: by class and distance, in the modes and on the splits that they are given for."""

import shutil

import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.errors import CheckpointError, DataError
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.experiments.shrink import shrink
from opencood.tools import inference

pytestmark = pytest.mark.slow
SMALL = [-25.6, -25.6, -15, 25.6, 25.6, 15]
FLAT = [-25.6, -25.6, -3, 25.6, 25.6, 1]
QUIET = ["--untrained", "--device", "cpu", "--workers", "0", "--save_vis_interval", "0"]
BANDS = ("short", "middle", "long")


@pytest.fixture
def run_folder(clone, tmp_path, monkeypatch):
    """A function that makes a run folder without a checkpoint of a shipped file."""
    monkeypatch.chdir(clone)

    def make(name, limits, **changes):
        everywhere = {"cav_lidar_range": limits, "lidar_range": limits, "gt_range": limits}
        content = {"_base_": str(SHIPPED / "sim" / f"{name}.yaml"), "_everywhere_": everywhere, **changes}
        folder = tmp_path / name.replace("/", "_")
        folder.mkdir()
        save_config(load_yaml(write_yaml(tmp_path / "hypes.yaml", content)), folder)
        return folder

    return make


def result(folder, name):
    return yaml.safe_load((folder / f"eval_{name}.yaml").read_text())


def test_modes_of_v2xreal_by_class_and_distance(run_folder):
    threshold = {"target_args": {"score_threshold": 0.0}}
    folder = run_folder("v2xreal/late", SMALL, flavor="coopre", postprocess=threshold)
    truths = {}
    for mode in ("vc", "v2v", "ic", "i2i"):
        arguments = ["--model_dir", str(folder), "--fusion_method", "nofusion", "--dataset_mode", mode, "--limit", "1"]
        inference.main([*arguments, *QUIET])
        report = result(folder, f"no_{mode}_epoch0")
        assert set(report["ap_by_variant"]) == {"frame_order", "global_sort"}
        assert sum(report["ground_truths_by_class"].values()) == report["ground_truths"]
        by_range = report["ap_by_range"]
        assert sum(by_range[band]["ground_truths"] for band in BANDS) <= report["ground_truths"]
        assert by_range["all"]["ground_truths"] == report["ground_truths"]
        assert set(by_range["short"]["by_class"]) == {"vehicle", "pedestrian", "truck"}
        truths[mode] = report["ground_truths"]
    assert len(set(truths.values())) > 1  # another ego, other agents, other objects
    published = yaml.safe_load((folder / "short_eval.yaml").read_text())
    assert set(published["vehicle"][0.5]) == {"ap", "mrec", "mpre"}
    assert all((folder / f"{band}_eval.yaml").is_file() for band in BANDS) and (folder / "eval.yaml").is_file()


def test_v2v4real_in_time_and_late(run_folder):
    folder = run_folder("v2v4real/intermediate", FLAT, flavor="v2v4real")
    inference.main(["--model_dir", str(folder), *QUIET])
    inference.main(["--model_dir", str(folder), "--delay", "100", *QUIET])
    in_time, late = result(folder, "intermediate_epoch0"), result(folder, "intermediate_delay_100_epoch0")
    assert in_time["ground_truths"] == late["ground_truths"] > 0
    assert any("delay" in note for note in late["notes"]) and not in_time["notes"][:-1]
    assert {"ap_50", "ap_70", "mpre_50", "mrec_70"} <= set(yaml.safe_load((folder / "long_eval.yaml").read_text()))


def test_another_test_split_of_opv2v(run_folder, clone):
    folder = run_folder("opv2v/late", FLAT)
    culver = clone / "dataset" / "sim_opv2v" / "test_culver_city"
    if not culver.exists():
        shutil.copytree(clone / "dataset" / "sim_opv2v" / "validate", culver)
    inference.main(["--model_dir", str(folder), *QUIET])
    inference.main(["--model_dir", str(folder), "--test_dir", str(culver), *QUIET])
    default, other = result(folder, "late_epoch0"), result(folder, "late_test_culver_city_epoch0")
    assert (default["frames"], other["frames"]) == (2, 1)
    with pytest.raises(DataError, match="no folder"):
        inference.main(["--model_dir", str(folder), "--test_dir", "dataset/nowhere/test", *QUIET])


def test_a_checkpoint_of_a_certain_epoch(run_folder):
    folder = run_folder("opv2v/late", FLAT)
    with pytest.raises(CheckpointError, match="no checkpoint of epoch 7; it has none"):
        inference.main(["--model_dir", str(folder), "--epoch", "7", *QUIET])


def test_pretraining_on_two_formats_together(clone, monkeypatch):
    """V2X-Real's vehicles and V2V4Real in one batch, without a label of either."""
    monkeypatch.chdir(clone)
    hypes = shrink(load_yaml(SHIPPED / "coopre" / "second_coopre_combined.yaml"))
    entries = [{**entry, "path": f"dataset/sim_{entry['dataset']}/train"} for entry in hypes["root_dir"]]
    dataset = build_dataset(hypes.replaced({**hypes, "root_dir": entries}), train=True)
    first = [0, len(dataset.parts[0])]
    ego = dataset.collate_batch_train([dataset[index] for index in first])["ego"]
    assert "object_bbx_center" not in ego and ego["label_dict"] == {}
    outputs = build_model(hypes).train()(ego)
    assert set(outputs["target_cells"][:, 0].tolist()) == {0, 1}
    total, _ = build_loss(hypes)(outputs, ego["label_dict"])
    total.backward()
    assert torch.isfinite(total)
