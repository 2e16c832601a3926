"""Arguments that disturb: what section they stand for, in every tool."""

from __future__ import annotations

from typing import Any

import pytest

from opencood.experiments.results import perturb_note
from opencood.tools import _train_arguments, inference
from opencood.tools._cli import Parser
from opencood.tools._perturb_arguments import take_perturbations

FOLDER = ["--model_dir", "run"]


def section(arguments: list[str], made: Parser | None = None) -> dict[str, Any] | None:
    parser = made or inference.parser()
    return take_perturbations(parser, vars(parser.parse_args([*FOLDER, *arguments])))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", None),
        ("--pose_std 0.2 --rot_std 0.4", {"pose_noise": {"pos_std": 0.2, "rot_std": 0.4}}),
        ("--pos_std 1 --pose_noise von_mises", {"pose_noise": {"pos_std": 1.0, "distribution": "von_mises"}}),
        ("--delay 100", {"delay": {"milliseconds": 100.0}}),
        ("--delay 300 --delay_random", {"delay": {"milliseconds": 300.0, "random": True}}),
        ("--delay 1 --delay_pose_only", {"delay": {"milliseconds": 1.0, "pose_only": True}}),
        ("--async 50 --async_per frame", {"asynchrony": {"milliseconds": 50.0, "per": "frame"}}),
        ("--async 50 --async_unstamped", {"asynchrony": {"milliseconds": 50.0, "stamped": False}}),
        ("--drop_agents 0.2 --drop_per run", {"drop_agents": {"probability": 0.2, "per": "run"}}),
        ("--weather fog --visibility 60", {"fog": {"visibility": 60.0}}),
        ("--weather snow", {"snow": {}}),
        ("--weather snow --snow_rate 2.5 --delay 0", {"snow": {"rate": 2.5}, "delay": {"milliseconds": 0.0}}),
    ],
)
def test_sections(arguments: str, expected: dict[str, dict[str, Any]] | None) -> None:
    timed = expected and {name: {**content, "when": "test"} for name, content in expected.items()}
    assert section(arguments.split()) == timed


def test_when_and_instead_of_what() -> None:
    assert section(["--no_perturb"]) == {"_replace_": True}
    assert section(["--weather", "fog", "--no_perturb", "--perturb_when", "always"]) == {
        "fog": {"when": "always"},
        "_replace_": True,
    }
    training = _train_arguments.parser(None)
    given = training.parse_args(["-y", "None", "--weather", "fog"])
    assert take_perturbations(training, vars(given)) == {"fog": {"when": "train"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--visibility 50", "--visibility goes with --weather fog"),
        ("--weather fog --snow_rate 1", "--snow_rate goes with --weather snow"),
        ("--drop_agents 1.5", "a number from 0 to 1, found '1.5'"),
        ("--delay -5", "a number of at least 0, found '-5'"),
        ("--rot_std much", "found 'much'"),
        ("--delay_random", "--delay is missing"),
        ("--drop_per run", "--drop_agents is missing"),
    ],
)
def test_contradictions_are_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        section(arguments.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_names_of_results() -> None:
    assert perturb_note(None) == ""
    assert perturb_note({"fog": {"visibility": 50.0, "when": "test"}, "snow": {}}) == "_fog_50_snow"
    assert perturb_note({"drop_agents": {"probability": 0.2, "per": "run"}, "_replace_": True}) == (
        "_drop_agents_0.2_run_no_perturb"
    )
