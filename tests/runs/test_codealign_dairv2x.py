"""CodeAlign's stages on simulated DAIR-V2X, from nothing to the table: what trains in each, what is sent in the end."""

from pathlib import Path

import pytest
import torch
import yaml

from opencood.evaluation.files import write_yaml
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_run import Runner
from opencood.models.checkpoints import find_checkpoint, read_state_dict
from opencood.tools import run_recipe

pytestmark = pytest.mark.slow
RECIPE = Path(run_recipe.__file__).resolve().parents[1] / "recipes" / "sim_codealign_dairv2x.yaml"
TINY = {"epoches": 1, "max_train_batches": 2, "max_val_batches": 1, "eval_freq": 1, "save_freq": 1, "num_workers": 0}
CELLS, BITS = 64 * 128, 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of the recipe's first seed, and its table."""
    tmp_path = tmp_path_factory.mktemp("dairv2x")
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["stages"]["world"]["simulate"] |= {"preset": "mini", "scenarios": [2, 1, 1], "frames": 2}
    recipe["stages"]["in order"]["options"] = {"workers": 0, "progress": False}
    recipe |= {"out": str(tmp_path / "out"), "set": {"train_params": TINY}}
    return tmp_path / "out" / "seed0", Runner(read_recipe(write_yaml(tmp_path / "recipe.yaml", recipe))).run()


def weights(folder, stage):
    return read_state_dict(find_checkpoint(folder / stage)[0])


def test_the_recipe_ends_with_its_table(finished):
    _, table = finished
    alone, together = table.rows
    assert (alone.label, together.label) == ("in order 1", "in order 2")
    assert alone.frames == together.frames == 2
    assert alone.megabits == 0
    header = 8e-6 * 200
    assert CELLS * BITS * 1e-6 < together.megabits < CELLS * BITS * 1e-6 + header
    assert any(line.startswith("in order 2") for line in table.lines())


BACKEND = ("fusion_backbone", "shrink_conv", "cls_head", "reg_head", "dir_head")
# Part of a stage's detector -> the stage it comes from, and its name there where that is another.
ORIGINS = {
    "m1_words": {part: ("m1", part) for part in ("encoder_m1", "backbone_m1", *BACKEND)},
    "m2_words": {part: ("m2", part) for part in ("encoder_m2", "backbone_m2", *BACKEND)},
    "translator": {
        "encoder_m2": ("m2", "encoder_m2"),
        "backbone_m2": ("m2", "backbone_m2"),
        "aligner_m2": ("m2_words", "aligner_m2"),
        "backend_models.m1.codebook": ("m1_words", "codebook"),
        "backend_models.m1.fusion": ("m1_words", "fusion_backbone"),
        **{f"backend_models.m1.{part}": ("m1_words", part) for part in BACKEND[1:]},
    },
    "deployed": {
        "encoder_m1": ("m1", "encoder_m1"),
        "aligner_m1": ("m1_words", "aligner_m1"),
        "encoder_m2": ("m2", "encoder_m2"),
        "aligner_m2": ("m2_words", "aligner_m2"),
        "translator_m2": ("translator", "translator"),
        "backend_models.m1.codebook": ("m1_words", "codebook"),
        "backend_models.m1.fusion": ("m1_words", "fusion_backbone"),
    },
}


@pytest.mark.parametrize("stage", ORIGINS)
def test_what_a_stage_takes_from_earlier_ones_it_does_not_move(finished, stage):
    folder, _ = finished
    own = weights(folder, stage)
    for part, (origin, name) in ORIGINS[stage].items():
        earlier = {key: value for key, value in weights(folder, origin).items() if key.startswith(f"{name}.")}
        assert earlier
        for key, value in earlier.items():
            assert torch.equal(own[part + key[len(name) :]], value), key


def test_statistics_of_a_trained_part_move(finished):
    folder, _ = finished
    own = weights(folder, "m1_words")
    moving = [key for key in own if key.startswith("aligner_m1.") and key.endswith("running_mean")]
    assert moving and all(own[key].abs().sum() > 0 for key in moving)
