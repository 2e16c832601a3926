"""Recipes: HEAL's workflow from nothing to the table, what runs again and why, and recipes that are wrong."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from opencood.errors import CheckpointError, ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments import recipe_stages
from opencood.experiments.published import results_page
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_records import STATE
from opencood.experiments.recipe_run import Runner
from opencood.models.checkpoints import find_checkpoint, read_state_dict
from opencood.tools import run_recipe

SHIPPED = Path(run_recipe.__file__).resolve().parents[1] / "recipes"
SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]
TINY = {"batch_size": 1, "epoches": 2, "max_train_batches": 2, "max_val_batches": 1, "eval_freq": 1, "save_freq": 1}
STILL = ("pyramid_backbone", "shrink_conv", "cls_head", "reg_head", "dir_head")
LEARNS = ("encoder_m3", "backbone_m3", "aligner_m3")


def heal(tmp_path: Path, **changes) -> Path:
    """The shipped recipe on a few frames and a small map."""
    recipe = yaml.safe_load((SHIPPED / "sim_heal.yaml").read_text())
    recipe["stages"]["world"] = {"simulate": {"preset": "mini", "seed": 3}}
    recipe["stages"]["in order"] |= {"in_order": [1, 2], "options": {"workers": 0, "progress": False, "limit": 2}}
    everywhere = {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL}
    sizes = {"_everywhere_": everywhere, "train_params": {**TINY, "num_workers": 0}}
    pictures = {"agents": {"across": "agents", "curves": {"HEAL": {1: "in order 1", 2: "in order 2"}}}}
    here = {"out": str(tmp_path / "out"), "set": sizes, "bands": "0-30,30-50", "pictures": pictures}
    return write_yaml(tmp_path / "recipe.yaml", recipe | here | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a recipe that ran once, and what its tool printed."""
    tmp_path = tmp_path_factory.mktemp("recipe")
    recipe = heal(tmp_path)
    return tmp_path, Runner(read_recipe(recipe)).run()


@pytest.mark.slow
def test_heal_runs_from_nothing_to_the_table(finished):
    tmp_path, table = finished
    out = tmp_path / "out"
    assert [row.label for row in table.rows] == ["in order 1", "in order 2"]
    assert all(row.frames == 2 and row.seeds == 1 for row in table.rows)
    assert table.rows[0].megabits == 0 < table.rows[1].megabits
    assert "in order 2 minus in order 1, AP@0.5" in "\n".join(table.lines())
    assert (out / "table.md").read_text().startswith("| row |")
    assert len(table.distances) == 2 and all(
        set(rows) == {"in order 1", "in order 2"} for rows in table.distances.values()
    )
    with Image.open(out / "agents.png") as picture:
        assert picture.width > 2 * picture.height  # all objects, and two distances beside it
    assert yaml.safe_load((out / "summary.yaml").read_text())["rows"]["in order 2"]["seeds"] == 1
    logs = {path.name for path in (out / "logs").iterdir()}
    assert logs == {"world.log", *(f"{name}_seed0.log" for name in ("base", "m3", "final", "in order"))}


@pytest.mark.slow
def test_what_is_frozen_in_stage_2_did_not_move_by_a_bit(finished):
    folder = finished[0] / "out" / "seed0"
    base, aligned, final = (read_state_dict(find_checkpoint(folder / name)[0]) for name in ("base", "m3", "final"))
    start = read_state_dict(folder / "m3" / "net_epoch0.pth")
    still = [key for key in aligned if key.startswith(STILL)]
    assert {key.partition(".")[0] for key in still} == set(STILL)
    assert any(key.endswith("running_mean") for key in still) and any(key.endswith("_tracked") for key in still)
    for key in still:
        assert torch.equal(aligned[key], base[key]) and torch.equal(final[key], base[key]) and key in start, key
    moved = {part: [k for k in aligned if k.startswith(part) and k.endswith("running_mean")] for part in LEARNS[:2]}
    for part, keys in moved.items():
        assert keys and not any(torch.equal(aligned[k], torch.zeros_like(aligned[k])) for k in keys), part
    assert {key.partition(".")[0] for key in final} == {*STILL, *LEARNS, "encoder_m1", "backbone_m1"}
    assert all(torch.equal(final[key], aligned[key]) for key in final if key.startswith(LEARNS))


@pytest.mark.slow
def test_again_only_what_changed_runs(finished, capsys, monkeypatch):
    tmp_path, first = finished
    out = tmp_path / "out"
    runner = Runner(read_recipe(heal(tmp_path)))
    assert all(verdict.done for verdict in runner.plan().values())
    assert "nothing to do" in runner.describe()
    before = (out / STATE).read_text()
    run_recipe.main([str(tmp_path / "recipe.yaml"), "--publish", str(tmp_path / "kept")])
    assert Runner(read_recipe(heal(tmp_path))).run().rows == first.rows and (out / STATE).read_text() == before
    kept = tmp_path / "kept" / "heal_sim"
    assert (kept / "table.md").read_text() == (out / "table.md").read_text()
    assert yaml.safe_load((kept / "recipe.yaml").read_text())["stages"].keys() == {*runner.recipe.stages}
    assert (out / "table.md").read_text().strip() in results_page(tmp_path / "kept")

    stages = yaml.safe_load((tmp_path / "recipe.yaml").read_text())["stages"]
    changed = heal(tmp_path, stages=stages | {"m3": stages["m3"] | {"set": {"optimizer": {"lr": 0.005}}}})
    run_recipe.main([str(changed), "--dry-run"])
    text = capsys.readouterr().out
    assert re.search(r"base, seed 0 \(train\): done", text)
    assert re.search(r"m3, seed 0 \(train\): to do: changed since .*: hypes, recipe", text)
    assert re.search(r"final, seed 0 \(merge\): to do: after m3, seed 0", text)
    assert "estimate: m3, seed 0: as before" in text
    assert (out / STATE).read_text() == before

    monkeypatch.setenv("OPENCOOD_MAX_EPOCHS", "1")
    assert "limits of the environment" in str(Runner(read_recipe(heal(tmp_path))).plan()["base, seed 0"])
    monkeypatch.delenv("OPENCOOD_MAX_EPOCHS")
    checkpoint = find_checkpoint(out / "seed0" / "base")[0]
    weights = checkpoint.read_bytes()
    checkpoint.write_bytes(weights[:-1] + b"x")
    verdict = Runner(read_recipe(heal(tmp_path))).plan()["base, seed 0"]
    checkpoint.write_bytes(weights)
    assert "its outputs are missing or changed" in str(verdict)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_a_second_seed_is_its_own(finished, monkeypatch):
    tmp_path, _ = finished
    out = tmp_path / "out"
    recipe = read_recipe(heal(tmp_path), seeds=[0, 1])
    real = recipe_stages.run_training

    def interrupted(hypes, folder, options):
        monkeypatch.setenv("OPENCOOD_MAX_EPOCHS", "1")
        real(hypes, folder, options)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_stages, "run_training", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Runner(recipe).run()
    monkeypatch.setattr(recipe_stages, "run_training", real)
    monkeypatch.delenv("OPENCOOD_MAX_EPOCHS")
    assert "was interrupted, goes on" in str(Runner(recipe).plan()["base, seed 1"])
    assert (out / "seed1" / "base" / "net_epoch1.pth").is_file()
    table = Runner(recipe).run()
    steps = [json.loads(line) for line in (out / "seed1/base/training.jsonl").read_text().splitlines()]
    assert [(s["epoch"], s["step"]) for s in steps if s["event"] == "step"] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row.seeds for row in table.rows] == [2, 2]
    assert "over seeds" in table.lines()[-1]
    first, second = (read_state_dict(find_checkpoint(out / f"seed{seed}/base")[0]) for seed in (0, 1))
    assert not torch.equal(first["cls_head.weight"], second["cls_head.weight"])


def test_a_failing_stage_is_named_with_its_log_and_logged(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    recipe = {"out": str(tmp_path / "out"), "stages": {"test": {"infer": str(tmp_path / "run")}}}
    runner = Runner(read_recipe(write_yaml(tmp_path / "recipe.yaml", recipe)))
    with caplog.at_level(logging.INFO), pytest.raises(CheckpointError, match=r"stage test, seed 0: .*test_seed0\.log"):
        runner.run()
    assert not runner.records


WRONG = {
    "unknown key": ({"stagse": {}}, "unknown key 'stagse'. Did you mean 'stages'"),
    "no stages": ({"stages": {}}, "there is none"),
    "two kinds": ({"stages": {"a": {"train": "x", "merge": []}}}, "expected one of"),
    "unknown option": ({"stages": {"a": {"train": "sim/late.yaml", "strat": "b"}}}, "Did you mean 'start'"),
    "unknown hypes": ({"stages": {"a": {"train": "sim/lat.yaml"}}}, "no hypes file 'sim/lat.yaml'"),
    "later stage": ({"stages": {"a": {"train": "sim/late.yaml", "start": "b"}}}, "neither an earlier stage"),
    "no weights": (
        {"stages": {"w": {"simulate": {}}, "a": {"train": "sim/late.yaml", "start": "w"}}},
        "'w' makes no weights",
    ),
    "merge": ({"stages": {"a": {"merge": []}}}, "merge needs"),
    "seeds": ({"seeds": [1, 1], "stages": {}}, "seeds: expected different"),
    "no row to compare": (
        {"stages": {"a": {"train": "sim/late.yaml"}, "b": {"infer": "a"}}, "compare": [["b", "c"]]},
        "compare: no row 'c'",
    ),
    "no row to draw": (
        {
            "stages": {"a": {"train": "sim/late.yaml"}, "b": {"infer": "a", "in_order": [1, 2]}},
            "pictures": {"p": {"across": "agents", "curves": {"late": {1: "b 1", 2: "b 3"}}}},
        },
        "pictures.p: no row 'b 3'",
    ),
    "numbers and words": (
        {
            "stages": {"a": {"train": "sim/late.yaml"}, "b": {"infer": "a"}},
            "pictures": {"p": {"across": "agents", "curves": {"late": {1: "b", "two": "b"}}}},
        },
        "all of them over numbers or all over words",
    ),
    "pair": ({"stages": {"a": {"train": "sim/late.yaml"}}, "compare": ["a"]}, "compare: expected pairs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_recipes_are_refused_in_one_line(tmp_path, case):
    content, message = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        read_recipe(write_yaml(tmp_path / "recipe.yaml", content))
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert "recipe.yaml" in str(refused.value)


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.glob("*.yaml")))
def test_shipped_recipes_are_right(name, tmp_path, capsys):
    run_recipe.main([str(SHIPPED / name), "--dry-run", "--out", str(tmp_path / "out")])
    assert "estimate: together" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
