"""CodeAlign's stages on simulated DAIR-V2X, from nothing to the table: what trains in each, what is sent in the end."""

from pathlib import Path

import pytest
import torch
import yaml

from opencood.evaluation.files import write_yaml
from opencood.experiments.recipe import read_recipe
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


@pytest.mark.parametrize(
    ("stage", "before", "learns"),
    [
        ("m1_words", "m1", {"aligner_m1", "codebook"}),
        ("m2_words", "m2", {"aligner_m2", "codebook"}),
        ("translator", "translator", {"translator"}),
        ("deployed", "translator", set()),
    ],
)
def test_each_stage_moves_what_it_trains_and_nothing_else(finished, stage, before, learns):
    folder, _ = finished
    after = weights(folder, stage)
    start = read_state_dict(folder / stage / "net_epoch0.pth") if stage == before else weights(folder, before)
    moved = {key.partition(".")[0] for key in after if key not in start or not torch.equal(after[key], start[key])}
    assert moved == learns


def test_the_translator_starts_with_the_senders_encoder_and_the_receivers_backend(finished):
    folder, _ = finished
    sender, receiver, joint = (weights(folder, stage) for stage in ("m2_words", "m1_words", "translator"))
    for key, value in sender.items():
        if key.startswith(("encoder_m2", "backbone_m2", "aligner_m2")):
            assert torch.equal(joint[key], value), key
    renamed = {"fusion_backbone": "fusion"}
    for key, value in receiver.items():
        part, _, rest = key.partition(".")
        ours = key if part.endswith("_m1") else f"backend_models.m1.{renamed.get(part, part)}.{rest}"
        assert torch.equal(joint[ours], value), key
