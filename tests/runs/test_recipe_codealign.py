"""The recipe of CodeAlign's claims, from simulated data to its tables, on a few frames and steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from opencood.errors import ConfigError
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.experiments.recipe_estimate import estimate_lines
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_run import Runner
from opencood.experiments.recipe_stages import tasks_of
from opencood.models.checkpoints import find_checkpoint, read_state_dict
from opencood.tools import run_recipe

SHIPPED = Path(run_recipe.__file__).resolve().parents[1] / "recipes"
TINY = {"batch_size": 1, "epoches": 1, "max_train_batches": 2, "max_val_batches": 1, "eval_freq": 1, "save_freq": 1}
PAIRS = [["m1", "m6"], ["m6", "m3"]]
CELLS = 48 * 48


def tiny(tmp_path: Path) -> Path:
    """The shipped recipe with two steps for every training, two test frames and two pairs."""
    recipe = yaml.safe_load((SHIPPED / "sim_codealign.yaml").read_text())
    stages = recipe["stages"]
    world = {"preset": "mini", "agents": [2, 2], "cameras": True, "extra_beams": [16], "seed": 3}
    stages["world"] = {"simulate": world}
    for name, stage in list(stages.items()):
        if "train" in stage:
            stage.pop("set", None)
        if str(stage.get("start", "")).startswith("weights/"):
            stage["start"] = str(SHIPPED / stage["start"])
        if "infer" in stage:
            stage["options"] = {**stage.get("options", {}), "workers": 0, "progress": False, "limit": 2}
            own = [[pair[0]] for pair in PAIRS] if stage["method"] == "single" else PAIRS
            stage["pairs"] = [pair for pair in own if pair in stage["pairs"]]
            if not stage["pairs"]:
                del stages[name]
    recipe |= {"out": str(tmp_path / "out"), "set": {"train_params": {**TINY, "num_workers": 0}}}
    return write_yaml(tmp_path / "recipe.yaml", recipe)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of the recipe after it ran, and its table."""
    tmp_path = tmp_path_factory.mktemp("codealign")
    return tmp_path / "out", Runner(read_recipe(tiny(tmp_path))).run()


@pytest.mark.slow
def test_codealign_runs_from_nothing_to_its_tables(finished):
    out, table = finished
    labels = {row.label for row in table.rows}
    everywhere = ("unaligned", "late", "codealign", "codealign, one space", "joint")
    disturbed = ("late, 0.4 m", "codealign, 0.4 m", "joint, 0.4 m")
    assert labels == {"single m1", "single m6", "codealign, entropy m1+m6"} | {
        f"{method} {pair}" for method in everywhere + disturbed for pair in ("m1+m6", "m6+m3")
    }
    grids = {title: lines for title, _, lines in table.grids}
    assert [line[0] for line in grids["AP@0.5"]] == ["m1+m6", "m6+m3", "mean"]
    (header,) = (header for title, header, _ in table.grids if title == "AP@0.7")
    entropy = header.index("codealign, entropy")  # tested on one pair
    assert all(cell for line in grids["AP@0.7"] for cell in line[:entropy] + line[entropy + 1 :])
    trained = {label: int(number.replace(",", "")) for label, number in grids["parameters that train"]}
    assert trained["m3 joins the group"] < trained["m6, one direction"] < trained["end to end, all four"]
    assert (out / "rows.csv").read_text().count("\n") == 1 + len(labels)
    assert "codealign minus late" in (out / "table.md").read_text()


@pytest.mark.slow
def test_tests_of_pairs_can_be_estimated(finished):
    recipe = read_recipe(finished[0].parent / "recipe.yaml")
    tests = [task for task in tasks_of(recipe) if task.stage.kind == "infer"]
    text = "\n".join(estimate_lines(tests, {}))
    assert text.count("frames, about") == len(tests) and "cannot" not in text


@pytest.mark.slow
def test_wrong_poses_reach_the_detector(finished):
    out = finished[0] / "seed0"
    right = DetectionSet.load(out / "test codealign/codealign m1+m6.npz")
    wrong = DetectionSet.load(out / "test codealign, noise/codealign, 0.4 m m1+m6.npz")
    assert wrong.protocol["noise_setting"]["args"]["pos_std"] == 0.4
    assert any(
        a.scores.shape != b.scores.shape or (a.scores != b.scores).any() for a, b in zip(right, wrong, strict=True)
    )


@pytest.mark.slow
def test_what_is_sent_are_the_packed_words(finished):
    out, _ = finished
    coded = DetectionSet.load(out / "seed0/test codealign/codealign m1+m6.npz")
    plain = DetectionSet.load(out / "seed0/test unaligned/unaligned m1+m6.npz")
    for codes, maps in zip(coded, plain, strict=True):
        assert CELLS // 2 <= codes.message_bytes < CELLS // 2 + 400  # 4 bits per cell, and the request
        assert maps.message_bytes >= CELLS * 32 * 4
    assert coded.protocol["frames"] == 2


@pytest.mark.slow
def test_another_code_for_the_same_words_changes_bytes_and_no_box(finished):
    out, _ = finished
    packed = DetectionSet.load(out / "seed0/test codealign/codealign m1+m6.npz")
    squeezed = DetectionSet.load(out / "seed0/test entropy/codealign, entropy m1+m6.npz")
    for one, other in zip(packed, squeezed, strict=True):
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)
        assert one.message_bytes != other.message_bytes


@pytest.mark.slow
def test_rows_are_compared_with_the_same_objects_and_tuned_on_other_frames(finished):
    out, _ = finished
    tuned = DetectionSet.load(out / "seed0/test joint/tuning/joint m1+m6.npz")
    tested = DetectionSet.load(out / "seed0/test joint/joint m1+m6.npz")
    assert not any((a.ground_truth.shape == b.ground_truth.shape) and (a.ground_truth == b.ground_truth).all()
                   for a in tuned for b in tested)  # fmt: skip


@pytest.mark.slow
def test_each_stage_has_the_weights_of_the_stages_it_names(finished):
    out = finished[0] / "seed0"

    def weights(name):
        return read_state_dict(find_checkpoint(out / name)[0])

    deployed, lidars, camera, joined = (weights(name) for name in ("lidar ego", "lidars", "camera", "m3 joins"))
    translated = weights("to lidars")
    pairs = [
        (deployed, "backend_models.m3.fusion.", lidars, "fusion_backbone."),
        (deployed, "backend_models.m1.codebook.", lidars, "codebook."),
        (deployed, "aligner_m3.", joined, "aligner_m3."),
        (deployed, "aligner_m6.", camera, "aligner_m6."),
        (deployed, "translator_m6.", translated, "translator."),
        (deployed, "encoder_m2.", weights("m2"), "encoder_m2."),
        (translated, "backend_models.m1.fusion.", lidars, "fusion_backbone."),
        (joined, "codebook.", lidars, "codebook."),
        (camera, "fusion_backbone.", weights("m6"), "fusion_backbone."),
    ]
    for ours, prefix, theirs, origin in pairs:
        keys = [key for key in ours if key.startswith(prefix)]
        assert keys, prefix
        for key in keys:
            assert torch.equal(ours[key], theirs[origin + key[len(prefix) :]]), key


WRONG = {
    "pairs": ({"infer": "a", "pairs": ["m1", "m2"]}, "pairs: expected pairs"),
    "both": ({"infer": "a", "pairs": [["m1", "m2"]], "in_order": [1]}, "two ways to test"),
    "test split": ({"infer": "a", "threshold_from": "test"}, "never the split that is tested"),
    "truth": ({"infer": "a", "truth": "late"}, "no method tested before"),
    "weights": ({"assemble": "sim/late.yaml", "weights": {"m1.model_path": "b"}}, "neither an earlier stage"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tests_and_weights_are_refused(tmp_path, case):
    stage, message = WRONG[case]
    stages = {"a": {"train": "sim/late.yaml"}, "b2": stage}
    with pytest.raises(ConfigError, match=message):
        read_recipe(write_yaml(tmp_path / "recipe.yaml", {"stages": stages}))


def test_parameters_name_trainings(tmp_path):
    content = {"stages": {"a": {"train": "sim/late.yaml"}}, "parameters": {"all": ["b"]}}
    with pytest.raises(ConfigError, match="'b' is no training"):
        read_recipe(write_yaml(tmp_path / "recipe.yaml", content))


def test_a_recipe_inherits_from_another(tmp_path):
    stages = {"a": {"train": "sim/late.yaml", "set": {"seed": 1, "train_params": {"epoches": 2}}}}
    write_yaml(tmp_path / "base.yaml", {"name": "base", "stages": stages})
    own = {"_base_": "base.yaml", "stages": {"a": {"set": {"train_params": {"epoches": 9}}}, "b": {"infer": "a"}}}
    recipe = read_recipe(write_yaml(tmp_path / "own.yaml", own))
    assert list(recipe.stages) == ["a", "b"] and recipe.name == "base"
    assert recipe.stages["a"].spec["set"] == {"seed": 1, "train_params": {"epoches": 9}}
    write_yaml(tmp_path / "base.yaml", {"_base_": "own.yaml", "stages": stages})
    with pytest.raises(ConfigError, match="leads back to"):
        read_recipe(tmp_path / "own.yaml")
