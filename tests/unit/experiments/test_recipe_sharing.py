"""Several processes at one recipe: each task is run by one of them, and whoever dies leaves it to the others."""

import logging
import threading
from pathlib import Path

import pytest

from opencood.evaluation.files import write_yaml
from opencood.experiments import recipe_run
from opencood.experiments.recipe_file import read_recipe
from opencood.experiments.recipe_records import STATE, Record, Records
from opencood.experiments.recipe_run import Runner
from opencood.registry import REGISTRY

WORLDS = ("first", "second", "third")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three small worlds that do not depend on each other."""
    stages = {
        name: {"simulate": {"preset": "mini", "scenarios": [1, 0, 0], "frames": 1, "seed": seed}}
        for seed, name in enumerate(WORLDS)
    }
    return write_yaml(tmp_path / "recipe.yaml", {"out": str(tmp_path / "out"), "stages": stages})


def run_in_threads(file: Path, count: int) -> list[threading.Thread]:
    REGISTRY.names("writer")  # imported here: in reality each runner has a process of its own
    threads = [threading.Thread(target=Runner(read_recipe(file)).run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_two_runners_share_the_tasks(recipe, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recipe_run, "LOOK_AGAIN", 0.05)
    with caplog.at_level(logging.INFO):
        for thread in run_in_threads(recipe, 2):
            thread.join(timeout=120)
    begun = [record.message for record in caplog.records if "; log " in record.message]
    assert sorted(line.split()[1].rstrip(":") for line in begun) == sorted(WORLDS)
    assert set(Records(tmp_path / "out").known) == set(WORLDS)
    assert all((tmp_path / "out" / "data" / name / "simulation.json").is_file() for name in WORLDS)


def test_a_claimed_task_is_left_to_its_owner_until_that_is_gone(recipe, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recipe_run, "LOOK_AGAIN", 0.05)
    other = Records(tmp_path / "out")
    with caplog.at_level(logging.INFO):
        with other.claim("first") as ours:
            assert ours
            (thread,) = run_in_threads(recipe, 1)
            while len(Records(tmp_path / "out").known) < 2 and thread.is_alive():
                thread.join(timeout=0.05)
            assert set(Records(tmp_path / "out").known) == {"second", "third"}
        thread.join(timeout=120)
    assert set(Records(tmp_path / "out").known) == set(WORLDS)
    assert [record.message for record in caplog.records].count("[1/3] first: another process is at it") == 1


def test_nobody_undoes_what_another_wrote(tmp_path):
    one, two = Records(tmp_path), Records(tmp_path)
    record = Record({"recipe": "1"}, {"file": "2"}, 1.0, "now", "code")
    one.keep("a", record)
    two.keep("b", record)
    one.forget("missing")
    assert set(one.known) == {"a", "b"} == set(Records(tmp_path).known)
    assert (tmp_path / STATE).is_file()
