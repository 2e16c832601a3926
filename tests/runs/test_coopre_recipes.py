"""The recipes of CooPre's claims: that they are right, and two of them at toy size."""

from pathlib import Path

import pytest
import yaml

from opencood.errors import ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_run import Runner
from opencood.experiments.recipe_stages import tasks_of
from opencood.tools import run_recipe

SHIPPED = Path(run_recipe.__file__).resolve().parents[1] / "recipes"
NAMES = ("sim_coopre", "sim_coopre_domains", "sim_coopre_ratios", "sim_coopre_methods")
SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]
TINY = {"batch_size": 1, "epoches": 1, "max_train_batches": 1, "max_val_batches": 1, "eval_freq": 1, "save_freq": 1}


def toy(tmp_path: Path, name: str, keep: tuple[str, ...], **changes) -> Path:
    """Some stages of a shipped recipe on a few frames and a small map."""
    recipe = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    stages = {}
    for stage, spec in recipe["stages"].items():
        if "simulate" in spec:
            spec = {"simulate": spec["simulate"] | {"preset": "mini", "scenarios": [3, 1, 1], "frames": 2}}
        if "infer" in spec:
            spec = spec | {"options": {"workers": 0, "progress": False, "limit": 1}}
        if "set" in spec:
            spec = spec | {"set": {key: value for key, value in spec["set"].items() if key != "lr_scheduler"}}
            params = spec["set"].get("train_params", {})
            kept = {"label_fraction": params["label_fraction"]} if "label_fraction" in params else {}
            spec["set"]["train_params"] = TINY | kept
        if "simulate" in spec or stage in keep:
            stages[stage] = spec
    everywhere = {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL}
    common = {"_everywhere_": everywhere, "train_params": {**TINY, "num_workers": 0}}
    pairs = [pair for pair in recipe.get("compare", []) if set(pair) <= set(keep)]
    here = {"stages": stages, "out": str(tmp_path / name), "set": common, "compare": pairs}
    for picture in recipe["pictures"].values():
        kept = {name: {at: row for at, row in rows.items() if row in keep} for name, rows in picture["curves"].items()}
        picture["curves"] = {name: rows for name, rows in kept.items() if rows}
    return write_yaml(tmp_path / f"{name}.yaml", recipe | here | changes)


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_has_a_configuration(name):
    recipe = read_recipe(SHIPPED / f"{name}.yaml")
    trainings = [task for task in tasks_of(recipe) if task.stage.kind == "train"]
    assert trainings
    for task in trainings:
        hypes = task.hypes()
        assert hypes["train_params"]["epoches"] == hypes["lr_scheduler"]["epoches"]
        assert hypes["train_params"]["max_train_batches"] <= 400
    rows = {task.stage.method for task in tasks_of(recipe) if task.stage.kind == "infer"}
    assert all(set(pair) <= rows for pair in recipe.compare)


def test_stages_of_some_seeds(tmp_path):
    recipe = read_recipe(SHIPPED / "sim_coopre.yaml")
    of_seed = {seed: {task.stage.name for task in tasks_of(recipe) if task.seed == seed} for seed in recipe.seeds}
    assert of_seed[1] == of_seed[2] < of_seed[0]
    assert "20 % coopre" in of_seed[1] and "50 % coopre" not in of_seed[1]
    content = yaml.safe_load((SHIPPED / "sim_coopre.yaml").read_text())
    del content["stages"]["50 % coopre"]["seeds"]
    with pytest.raises(ConfigError, match=r"'coopre 50 %' is made for the seeds \[0\] only"):
        read_recipe(write_yaml(tmp_path / "recipe.yaml", content))


@pytest.mark.slow
def test_few_labels_at_toy_size(tmp_path):
    keep = ("coopre", "scratch 20 %", "coopre 20 %", "20 % scratch", "20 % coopre", "scratch 100 %", "100 % scratch")
    recipe = read_recipe(toy(tmp_path, "sim_coopre", keep, seeds=[0, 1]))
    table = Runner(recipe).run()
    assert {row.label: row.seeds for row in table.rows} == {"20 % scratch": 2, "20 % coopre": 2, "100 % scratch": 1}
    text = "\n".join(table.lines())
    assert "AP@0.5 by distance" in text and "short (" in text and "20 % coopre minus 20 % scratch" in text
    assert (tmp_path / "sim_coopre" / "few_labels.png").stat().st_size > 10_000
    chosen = [(tmp_path / "sim_coopre" / f"seed{seed}" / "coopre 20 %" / "label_fraction.txt") for seed in (0, 1)]
    assert chosen[0].read_text() == chosen[1].read_text()  # the published choice, whatever the seed


@pytest.mark.slow
def test_pretraining_on_both_domains_at_toy_size(tmp_path):
    keep = ("from both", "streets, both", "on streets after both")
    recipe = read_recipe(toy(tmp_path, "sim_coopre_domains", keep))
    table = Runner(recipe).run()
    assert [row.label for row in table.rows] == ["on streets after both"]
    saved = yaml.safe_load((tmp_path / "sim_coopre_domains" / "seed0" / "from both" / "config.yaml").read_text())
    assert [Path(entry["path"]).parts[-2] for entry in saved["root_dir"]] == ["streets", "avenues"]
