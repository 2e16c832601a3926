"""What a recipe's tests found, read back."""

import pytest

from opencood.errors import DataError
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_yaml
from opencood.experiments import recipe_rows
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_stages import tasks_of


def test_a_test_that_saw_no_frame_is_named_with_its_log(tmp_path):
    stages = {"base": {"train": "sim/late.yaml"}, "late": {"infer": "base"}}
    recipe = read_recipe(write_yaml(tmp_path / "recipe.yaml", {"out": str(tmp_path / "out"), "stages": stages}))
    test = next(task for task in tasks_of(recipe) if task.stage.name == "late")
    test.folder.mkdir(parents=True)
    DetectionSet(()).save(test.folder / "late.npz")
    facts = {test.name: {"rows": {"late": {"frames_per_second": None}}}}
    with pytest.raises(DataError, match=r"late\.npz: row 'late' tested no frame.*late_seed0\.log"):
        recipe_rows.tested_rows(recipe, facts)
