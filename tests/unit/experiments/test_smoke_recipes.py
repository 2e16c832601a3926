"""One smoke recipe per repository: published files, with nothing changed but paths, sizes and epochs.

They are run by ``.ci/run``; here it is checked what they are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from opencood.config.flavor import SHIPPED, flavor_of
from opencood.config.loader import load_file
from opencood.config.tree import lookup
from opencood.data.build import format_of
from opencood.errors import ConfigError
from opencood.evaluation.files import write_yaml
from opencood.experiments.recipe import TRAINED
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_stages import Task
from opencood.experiments.shrink import shrink
from opencood.tools import run_recipe

RECIPES = Path(run_recipe.__file__).resolve().parents[1] / "recipes" / "smoke"
REPOSITORIES = ("opencood", "coalign", "heal", "v2v4real", "v2xreal", "stamp", "gencomm", "codealign", "coopre")
PATHS = ("root_dir", "validate_dir", "test_dir", "data_dir", "seed", "train_params", "missing_checkpoints")


def changed(first: Any, second: Any, place: str = "") -> set[str]:
    """Where two configurations differ."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = {*first, *second}
        return {
            found for key in keys for found in changed(first.get(key), second.get(key), f"{place}.{key}".strip("."))
        }
    return set() if first == second else {place}


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_nothing_is_changed_but_paths_sizes_and_epochs(repository: str, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / f"{repository}.yaml", tmp_path)
    [world] = [stage for stage in recipe.stages.values() if stage.kind == "simulate"]
    kinds = {stage.kind for stage in recipe.stages.values()}
    assert kinds >= {"train", "infer"} and recipe.shrink
    for stage in (stage for stage in recipe.stages.values() if stage.kind in TRAINED):
        assert not stage.hypes.startswith("sim/")
        published = load_file(SHIPPED / stage.hypes)
        assert flavor_of(published) == repository
        assert format_of(published) == world.subject["format"]
        for need in stage.weights.values():  # the checkpoints that a configuration names must be there
            folder = Task(recipe, recipe.stages[need], 0).folder
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "net_epoch1.pth").touch()
        own = {f"model.args.{key}" for key in stage.weights}
        places = changed(shrink(published), Task(recipe, stage, 0).hypes())
        assert {place for place in places if place.partition(".")[0] not in PATHS and place not in own} == set()
        assert lookup(published, "model.core_method") is not None


def test_there_is_one_for_each_repository() -> None:
    assert {file.stem for file in RECIPES.glob("[!_]*.yaml")} == set(REPOSITORIES)


def test_shrink_is_a_switch(tmp_path: Path) -> None:
    file = write_yaml(tmp_path / "recipe.yaml", {"shrink": "small", "stages": {"w": {"simulate": {"preset": "mini"}}}})
    with pytest.raises(ConfigError, match="shrink: expected true or false, found 'small'"):
        read_recipe(file)
