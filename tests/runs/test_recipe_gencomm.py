"""The recipe of GenComm and its baselines: every stage of the five methods on a few frames and steps."""

from pathlib import Path

import pytest
import torch
import yaml

from opencood.config.loader import load_yaml
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_from_scratch
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_run import Runner
from opencood.experiments.recipe_stages import tasks_of
from opencood.models.checkpoints import find_checkpoint, read_state_dict
from opencood.tools import merge_model_w_adapter, run_recipe, stamp_tools

pytestmark = pytest.mark.slow
SHIPPED = Path(run_recipe.__file__).resolve().parents[1] / "recipes"
TINY = {"batch_size": 1, "epoches": 1, "max_train_batches": 1, "max_val_batches": 1, "eval_freq": 1, "save_freq": 1}
METHODS = ("gencomm", "backalign", "codefilling", "mpda", "mpda undisguised", "stamp", "unaligned")
SMALL = [-19.2, -19.2, -3, 19.2, 19.2, 1]
# What a second stage may change; everything else must stay as the first stage left it, batch statistics included.
LEARNS = {
    "gencomm m1m2": ("message_extractor_m2.",),
    "backalign m1m3": ("encoder_m3.", "backbone_m3.", "shrinker_m3."),
    "all codefilling": ("coodbook.",),
    "all mpda": (
        "resizer.",
        "cdt.",
        "classifier.",
        "fusion_net.",
        "shrink_conv.",
        "cls_head.",
        "reg_head.",
        "dir_head.",
    ),
    "stamp m4": ("adapter_m4.", "reverter_m4."),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The recipe after it ran with one step for every training and one test frame, and its table."""
    folder = tmp_path_factory.mktemp("gencomm")
    recipe = yaml.safe_load((SHIPPED / "sim_gencomm.yaml").read_text())
    recipe["stages"]["world"] = {"simulate": {"preset": "mini", "agents": [4, 4], "frames": 1, "seed": 3}}
    for stage in recipe["stages"].values():
        if "infer" in stage:
            stage["options"] = {"workers": 0, "progress": False, "limit": 1}
    ranges = {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL, "num_workers": 0}
    recipe |= {"out": str(folder / "out"), "set": {"train_params": TINY | {"num_workers": 0}, "_everywhere_": ranges}}
    read = read_recipe(write_yaml(folder / "recipe.yaml", recipe))
    return read, Runner(read).run()


def folder_of(recipe, name) -> Path:
    return next(task.folder for task in tasks_of(recipe) if task.stage.name == name)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_state_dict(find_checkpoint(folder)[0])


def test_every_method_is_tested_with_one_to_four_agents(finished):
    recipe, table = finished
    assert {row.label for row in table.rows} == {f"{method} {agents}" for method in METHODS for agents in (1, 2, 3, 4)}
    sizes = {row.label: row.megabits for row in table.rows}
    for method in METHODS:
        assert sizes[f"{method} 1"] == 0 and sizes[f"{method} 2"] < sizes[f"{method} 3"] < sizes[f"{method} 4"]
    assert sizes["gencomm 2"] * 10 < sizes["backalign 2"] and sizes["codefilling 2"] * 10 < sizes["backalign 2"]
    truths = {method: DetectionSet.load(folder_of(recipe, method) / f"{method} 4.npz") for method in METHODS}
    assert len({one.ground_truth_count for one in truths.values()}) == 1
    trained = dict(next(lines for title, _, lines in table.grids if title == "parameters that train"))
    assert int(trained["GenComm, m2 joins"].replace(",", "")) > 0


@pytest.mark.parametrize("stage", LEARNS)
def test_what_is_frozen_stays_as_it_was(finished, stage):
    recipe, _ = finished
    before, after = {}, weights_of(folder_of(recipe, stage))
    for start in recipe.stages[stage].starts:
        before |= weights_of(folder_of(recipe, start))
    common = [name for name in after if name in before]
    changed = [name for name in common if not torch.equal(before[name], after[name])]
    assert all(name.startswith(LEARNS[stage]) for name in changed), changed
    assert len(common) > 20
    new = [name for name in after if name not in before]
    assert all(name.startswith((*LEARNS[stage], "communication.")) for name in new), new
    learned = [name for name in after if name.startswith(LEARNS[stage]) and name not in new]
    assert changed or not learned


def test_a_merged_detector_holds_what_each_pair_learned_and_the_egos_rest(finished):
    recipe, _ = finished
    merged, base = weights_of(folder_of(recipe, "all gencomm")), weights_of(folder_of(recipe, "gencomm m1"))
    for m in ("m2", "m3", "m4"):
        pair = weights_of(folder_of(recipe, f"gencomm m1{m}"))
        own = [name for name in merged if name.partition(".")[0].endswith(f"_{m}")]
        assert own and all(torch.equal(merged[name], pair[name]) for name in own)
    assert all(torch.equal(merged[name], base[name]) for name in base)
    stamp, m1 = weights_of(folder_of(recipe, "all stamp")), weights_of(folder_of(recipe, "m1"))
    assert torch.equal(stamp["cls_head_m1.weight"], m1["cls_head.weight"]) and "cls_head.weight" not in stamp


def test_the_published_tools_put_stamp_together_alike(finished, tmp_path, capsys):
    recipe, _ = finished
    final = tmp_path / "final_infer" / "mine"
    final.mkdir(parents=True)
    (final / "config.yaml").write_text((folder_of(recipe, "all stamp") / "config.yaml").read_text())
    for m in ("m2", "m3", "m4"):
        (tmp_path / "local_adapter" / "mine").mkdir(parents=True, exist_ok=True)
        (tmp_path / "local_adapter" / "mine" / m).symlink_to(folder_of(recipe, f"stamp {m}"))
    (tmp_path / "local_adapter" / "mine" / "m1").symlink_to(folder_of(recipe, "stamp m1"))
    stamp_tools.main(["rename", str(folder_of(recipe, "m1")), "m1", "m1", str(tmp_path / "local" / "m1")])
    merge_model_w_adapter.main(["--model_dir", str(tmp_path), "--adapter_dir", "mine"])
    assert "wrote" in capsys.readouterr().out
    ours, theirs = weights_of(folder_of(recipe, "all stamp")), weights_of(final)
    built = build_from_scratch(load_yaml(None, model_dir=final)).state_dict()
    untyped = {name for name in built if name.startswith("fusion_net")}
    assert set(theirs) == set(built)
    assert all(torch.equal(theirs[name], ours[name]) for name in built if name not in untyped)


def test_the_smoke_recipe_runs_on_simulated_dairv2x(tmp_path):
    recipe = yaml.safe_load((SHIPPED / "sim_gencomm_dairv2x.yaml").read_text())
    recipe["stages"]["world"]["simulate"] |= {"preset": "mini", "scenarios": [1, 1, 1]}
    recipe["stages"]["in order"]["options"] = {"workers": 0, "progress": False, "limit": 2}
    recipe |= {"out": str(tmp_path / "out"), "set": {"train_params": TINY | {"num_workers": 0}}}
    table = Runner(read_recipe(write_yaml(tmp_path / "recipe.yaml", recipe))).run()
    sizes = {row.label: row.megabits for row in table.rows}
    assert sizes["in order 1"] == 0 < sizes["in order 2"]
