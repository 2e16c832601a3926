"""What a sweep varies: values as people write them, and what they change."""

from pathlib import Path

import pytest

from opencood.errors import ConfigError
from opencood.experiments.session import InferenceOptions
from opencood.experiments.sweep import names_of
from opencood.experiments.sweep_factors import apply, conditions, name_of, parse_values

OPTIONS = InferenceOptions(Path("run"))


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("pose_std", "0:0.6:0.2", [0, 0.2, 0.4, 0.6]),
        ("delay", "0,1,3", [0, 1, 3]),
        ("drop", "0,0.05,0.2", [0, 0.05, 0.2]),
        ("agents", "1-4", [1, 2, 3, 4]),
        ("agents", "2", [2]),
        ("weather", "clear,fog,snow:2", ["clear", "fog", "snow:2"]),
        ("precision", "float32,int8", ["float32", "int8"]),
        ("bit_error", "0,1e-5", [0, 1e-5]),
    ],
)
def test_values_are_read(name, text, values):
    assert parse_values(name, text) == values


@pytest.mark.parametrize(
    ("name", "text"),
    [("pose_std", "a"), ("pose_std", "0:1:0"), ("drop", "1.5"), ("agents", "0-2"), ("agents", "1.5"), ("delay", "-1"),
     ("weather", "rain"), ("precision", "int4"), ("drop", "0,0"), ("agents", "1-99999"), ("pose_std", "")],
)  # fmt: skip
def test_wrong_values_are_named(name, text):
    with pytest.raises(ConfigError, match=f"--{name}"):
        parse_values(name, text)


def test_one_factor_at_a_time_starts_undisturbed_and_repeats_nothing():
    values = {"pose_std": [0.0, 0.2], "drop": [0.0, 0.1, 0.2]}
    assert conditions(values, grid=False) == [{}, {"pose_std": 0.2}, {"drop": 0.1}, {"drop": 0.2}]
    grid = conditions(values, grid=True)
    assert len(grid) == 6 and {} in grid and {"pose_std": 0.2, "drop": 0.1} in grid


def test_conditions_have_names_for_files():
    assert name_of({}) == "undisturbed"
    assert name_of({"pose_std": 0.2, "weather": "fog:60"}) == "pose_std_0.2+weather_fog_60"


def test_conditions_become_options():
    changed = apply(OPTIONS, {"pose_std": 0.2, "delay": 3.0, "drop": 0.1, "agents": 2, "weather": "snow:2"})
    assert changed.perturb == {
        "pose_noise": {"pos_std": 0.2, "rot_std": 0.2, "when": "test"},
        "delay": {"milliseconds": 300.0, "when": "test"},
        "snow": {"rate": 2.0, "when": "test"},
    }
    assert changed.channel == {"drop": 0.1} and changed.agents == 2
    assert apply(OPTIONS, {}) == OPTIONS


def test_runs_are_told_apart_by_as_little_of_their_paths_as_needed():
    assert list(names_of([Path("a/x"), Path("b/y")])) == ["x", "y"]
    assert list(names_of([Path("a/x"), Path("b/x")])) == ["a_x", "b_x"]
    assert list(names_of([Path("a/x")], ["GenComm"])) == ["GenComm"]
    for wrong in (["one"], ["same", "same"], ["a/b", "c"]):
        with pytest.raises(ConfigError, match="--names"):
            names_of([Path("a/x"), Path("b/y")], wrong)
