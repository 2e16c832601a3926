"""The published command lines, verbatim through a shell, in a clone that is not installed, on simulated data.

The environment caps trainings (``OPENCOOD_MAX_EPOCHS``, ``OPENCOOD_MAX_BATCHES``); what the reader fills in and what the
folders of earlier steps hold is small. Commands of a transcript run in its order, in the same folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from opencood.config.loader import Hypes, load_yaml
from opencood.config.save import save_config
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_model
from opencood.experiments.simulate import SimulationOptions, simulate

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHIPPED = ROOT / "opencood" / "hypes_yaml"
SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]
BASELINES = "opencood/logs/Baselines"


@dataclass(frozen=True)
class Line:
    """A command, and the words with which it is refused, if it is."""

    command: str
    refusal: str = ""


def transcript(name: str) -> list[Line]:
    lines, refusal = [], ""
    for text in (HERE / name).read_text().splitlines():
        if text.startswith("! "):
            refusal = text[2:]
        elif text and not text.startswith("#"):
            lines.append(Line(text, refusal))
            refusal = ""
    return lines


LINES = transcript("heal.txt")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package beside its own logs folder, with simulated data and the run folders that earlier steps leave."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "opencood" / "logs").mkdir(parents=True)
    for entry in (ROOT / "opencood").iterdir():
        if entry.name not in ("logs", "__pycache__"):
            (folder / "opencood" / entry.name).symlink_to(entry)
    simulate(SimulationOptions(out=folder / "dataset" / "sim", preset="mini", seed=5))
    make(folder, "checkpoint", "sim/intermediate.yaml")
    make(folder, "opencood/logs/path_to_checkpoint", "sim/intermediate.yaml")
    base, added, final = (f"sim/HEAL/{name}.yaml" for name in
                          ("stage1/m1_pyramid", "stage2/m3_single_pyramid", "final_infer/m1m3"))  # fmt: skip
    make(folder, f"{BASELINES}/stage1/OPV2V_m1_att", base, weights=False)
    for name in ("stage1/OPV2V_m2_att", "stage1/OPV2V_m3_att", "stage2/BackAlign/OPV2V_m1m2_att"):
        make(folder, f"{BASELINES}/{name}", added)
    make(folder, f"{BASELINES}/stage2/BackAlign/OPV2V_m1m3_att", added, weights=False)
    make(folder, f"{BASELINES}/stage2/BackAlign/OPV2V_m1m4_att", added)
    make(folder, f"{BASELINES}/stage2/CodeFilling/OPV2V_m1m2m3m4_att", final)
    made = make(folder, "opencood/logs/HEAL_m1_based/final_infer", final)
    (made / "config.yaml").rename(made / "m1m3.yaml")
    return folder


def make(clone: Path, name: str, hypes: str, weights: bool = True) -> Path:
    folder = clone / name
    content = small(folder.with_suffix(".yaml"), hypes)
    save_config(content, folder)
    if weights:
        torch.manual_seed(0)
        torch.save(build_model(content).state_dict(), folder / "net_epoch1.pth")
    return folder


def small(file: Path, hypes: str) -> Hypes:
    changes = {
        "_base_": str(SHIPPED / hypes),
        "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL},
        "train_params": {"epoches": 7, "batch_size": 1, "num_workers": 0},
    }
    hypes_file = load_yaml(write_yaml(file, changes))
    file.unlink()
    return hypes_file


@pytest.fixture(scope="module")
def environment(clone: Path) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")}
    shutil.copy(clone / "checkpoint" / "config.yaml", clone / "hypes.yaml")
    return own | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CONFIG_FILE": "hypes.yaml",
        "CHECKPOINT_FOLDER": "checkpoint",
        "OPENCOOD_MAX_EPOCHS": "2",
        "OPENCOOD_MAX_BATCHES": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("line", LINES, ids=[f"{n:02d}-{line.command[:60]}" for n, line in enumerate(LINES)])
def test_runs_as_printed(line: Line, clone: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", line.command],
        cwd=clone, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said[-3000:]
    assert (done.returncode != 0) is bool(line.refusal), said[-3000:]
    assert line.refusal in " ".join(said.split()), said[-3000:]
    if "=x" in line.command:
        assert "running on the CPU" in said
    if "build_ext" in line.command:
        assert "nothing needs compiling" in said
    if "HEAL_m1_based" in line.command:
        assert "has no config.yaml: using m1m3.yaml" in said


def test_what_the_commands_left(clone: Path) -> None:
    """Runs after the transcript."""
    results = {path.name for path in (clone / f"{BASELINES}/stage2/CodeFilling/OPV2V_m1m2m3m4_att").glob("eval_*")}
    assert results == {f"eval_intermediate_25.6_25.6_epoch1_use_cav{k}.yaml" for k in (2, 3, 4)}
    assert (clone / f"{BASELINES}/stage2/CodeFilling/OPV2V_m1m2m3_att/net_epoch1.pth").is_file()
    assert not (clone / f"{BASELINES}/stage2/OPV2V_m1m2m3m4_att_infer").exists()
    new = [path for path in (clone / "opencood" / "logs").glob("sim_intermediate_2*") if path.is_dir()]
    assert len(new) == 2  # train.py and train_ddp.py made one each
    assert all(any(path.glob("eval_intermediate*.yaml")) for path in new)


def test_tools_run_from_another_working_directory(tmp_path: Path, environment: dict[str, str]) -> None:
    for tool in ("list_methods", "heal_tools", "run_recipe", "train_w_kd", "inspect_checkpoint"):
        done = subprocess.run(
            [str(ROOT / "opencood" / "tools" / f"{tool}.py"), "--help"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_every_tool_can_be_called_by_its_name() -> None:
    tools = [path for path in (ROOT / "opencood" / "tools").glob("[a-z]*.py")]
    assert tools
    for path in tools:
        assert path.read_text().startswith("#!/usr/bin/env python\n") and os.access(path, os.X_OK), path
