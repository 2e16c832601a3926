"""Disturbances from the command line: training keeps them in its configuration, inference in its protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.evaluation.files import write_yaml
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.tools import inference, inference_w_noise, train

pytestmark = pytest.mark.slow
QUIET = ["--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder trained for one epoch in fog, with a configuration that drops agents in testing."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "data"
    simulate(SimulationOptions(out=data, preset="mini", scenarios=(1, 1, 1), seed=5))
    splits = {f"{key}_dir": str(data / split) for key, split in
              (("root", "train"), ("validate", "validate"), ("test", "test"))}  # fmt: skip
    content = {
        "_base_": str(SHIPPED / "sim" / "intermediate.yaml"),
        **splits,
        "train_params": {"epoches": 1, "batch_size": 2},
        "perturb": {"drop_agents": {"probability": 1.0, "when": "test"}},
    }
    hypes = write_yaml(folder / "hypes.yaml", content)
    arguments = ["-y", str(hypes), "--no_eval", "--weather", "fog", "--visibility", "40"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train.main([*arguments, *QUIET])
    (run_dir,) = (folder / "opencood" / "logs").iterdir()
    return run_dir


def report(run: Path, *arguments: str) -> tuple[str, dict]:
    """Name and content of the one result file that an evaluation adds."""
    before = set(run.glob("eval_*.yaml"))
    inference.main(["--model_dir", str(run), "--limit", "1", "--save_vis_interval", "0", *QUIET, *arguments])
    (made,) = set(run.glob("eval_*.yaml")) - before
    return made.name, yaml.safe_load(made.read_text())


def test_inference_says_what_was_disturbed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content = report(run)
    assert content["protocol"]["perturb"] == {"drop_agents": {"probability": 1.0}}
    assert "disturbed by drop_agents(probability=1.0)" in capsys.readouterr().out
    assert name.startswith("eval_intermediate_") and "drop" not in name, "configured, so the name stays"
    name, content = report(run, "--weather", "snow", "--snow_rate", "2", "--pose_std", "0.2", "--no_perturb")
    assert content["protocol"]["perturb"] == {"snow": {"rate": 2.0}, "pose_noise": {"pos_std": 0.2}}
    assert "_snow_2_pose_noise_0.2" in name
    assert report(run, "--no_perturb")[1]["protocol"]["perturb"] == {}


def test_late_messages_and_silent_agents_run_through_the_detector(run: Path) -> None:
    _, content = report(run, "--delay", "100", "--async", "50", "--drop_agents", "0.5")
    assert content["protocol"]["perturb"]["asynchrony"] == {"milliseconds": 50.0}
    assert content["frames"] == 1


def test_the_noise_tool_takes_weather(run: Path) -> None:
    inference_w_noise.main(
        ["--model_dir", str(run), "--limit", "1", "--save_vis_interval", "0", "--weather", "fog", *QUIET]
    )
    (file,) = run.glob("AP030507_*fog*.yaml")
    summary = yaml.safe_load(file.read_text())
    assert summary["protocol"]["perturb"]["fog"] == {} and len(summary["ap50"]) == 4


def test_training_remembers_its_weather(run: Path) -> None:
    assert load_yaml(None, model_dir=run)["perturb"] == {
        "drop_agents": {"probability": 1.0, "when": "test"},
        "fog": {"visibility": 40.0, "when": "train"},
    }


def test_continuing_in_other_weather_is_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    train.main(["-y", "None", "--model_dir", str(run), "--no_eval", "--weather", "snow", *QUIET])
    assert "does not name the disturbances" in caplog.text
