"""The published command lines, verbatim through a shell, in a clone that is not installed, on simulated data.

The environment caps trainings (``OPENCOOD_MAX_EPOCHS``, ``OPENCOOD_MAX_BATCHES``); what the reader fills in and what
the folders of earlier steps hold is small.
"""

from __future__ import annotations

import os
import re
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
from tests.runs.codealign_hypes import late, on_opv2v, run_folder

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHIPPED = ROOT / "opencood" / "hypes_yaml"
MODALITIES = ("m2", "m3", "m4")
SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]


@dataclass(frozen=True)
class Line:
    """A command, whether it is refused, and what it says."""

    command: str
    refused: bool
    says: str


@dataclass(frozen=True)
class Block:
    """Commands that follow each other, and what is there after them."""

    title: str
    lines: tuple[Line, ...]
    left: tuple[str, ...]


def transcript(name: str) -> list[Block]:
    titles = re.split(r"^# --- ", (HERE / name).read_text(), flags=re.MULTILINE)[1:]
    return [block(*text.partition("\n")[::2]) for text in titles]


def block(title: str, text: str) -> Block:
    lines: list[Line] = []
    left: list[str] = []
    refused, says = False, ""
    for line in text.splitlines():
        mark, rest = line[:2], line[2:]
        if mark in ("! ", "> "):
            refused, says = mark == "! ", rest
        elif mark == "= ":
            left.append(rest)
        elif line:
            lines.append(Line(line, refused, says))
            refused, says = False, ""
    return Block(title, tuple(lines), tuple(left))


BLOCKS = transcript("heal.txt") + transcript("codealign.txt") + transcript("gencomm.txt")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sim"
    simulate(SimulationOptions(out=folder, preset="mini", scenarios=(1, 1, 1), seed=5))
    return folder


@pytest.fixture
def clone(tmp_path: Path, data: Path, request: pytest.FixtureRequest) -> Path:
    """The package beside its own logs folder, with simulated data and the run folders that a block names."""
    (tmp_path / "opencood" / "logs").mkdir(parents=True)
    for entry in (ROOT / "opencood").iterdir():
        if entry.name not in ("logs", "__pycache__"):
            (tmp_path / "opencood" / entry.name).symlink_to(entry)
    (tmp_path / "dataset").mkdir()
    for name in ("sim", "OPV2V"):
        (tmp_path / "dataset" / name).symlink_to(data)
    base, added, final = (f"sim/HEAL/{name}.yaml" for name in
                          ("stage1/m1_pyramid", "stage2/m3_single_pyramid", "final_infer/m1m3"))  # fmt: skip
    logs, told = "opencood/logs", " ".join(line.command for line in request.param.lines)
    added_runs = (
        "stage1/OPV2V_m2_att",
        "stage1/OPV2V_m3_att",
        *(f"stage2/BackAlign/OPV2V_m1{m}_att" for m in MODALITIES),
    )
    folders = {
        "checkpoint": "sim/intermediate.yaml",
        f"{logs}/path_to_checkpoint": "sim/intermediate.yaml",
        f"{logs}/Baselines/stage1/OPV2V_m1_att": base,
        **{f"{logs}/Baselines/{run}": added for run in added_runs},
        f"{logs}/Baselines/stage2/CodeFilling/OPV2V_m1m2m3m4_att": final,
        f"{logs}/HEAL_m1_based/final_infer": final,
        **{f"{logs}/GenComm/stage1/OPV2V_{m}_att": f"sim/gencomm/stage1/gencomm_{m}.yaml" for m in ("m1", "m2")},
    }
    for place, hypes in folders.items():
        if place in told.replace("${CHECKPOINT_FOLDER}", "checkpoint"):
            first_training = f"train.py -y None --model_dir {place}/" in told  # nothing but a configuration
            make(tmp_path, place, hypes, weights=not first_training)
    if "path_to_late_checkpoint" in told or "heter_task_average" in told or "data_balance" in told:
        make_codealign(tmp_path)
    for copied in re.findall(r"cp \S+ (\S+)", told):  # into run folders that the reader has made
        folder = tmp_path / copied
        (folder.parent if folder.suffix else folder).mkdir(parents=True, exist_ok=True)
    named = tmp_path / "opencood/logs/HEAL_m1_based/final_infer"
    if named.is_dir():
        (named / "config.yaml").rename(named / "m1m3.yaml")
    save_config(small(tmp_path / "hypes.yaml", "sim/intermediate.yaml"), tmp_path)
    (tmp_path / "config.yaml").rename(tmp_path / "hypes.yaml")
    return tmp_path


def make(clone: Path, name: str, hypes: str, weights: bool = True) -> Path:
    folder = clone / name
    content = small(folder.with_suffix(".yaml"), hypes)
    save_config(content, folder)
    if weights:
        torch.manual_seed(0)
        torch.save(build_model(content).state_dict(), folder / "net_epoch1.pth")
    return folder


def make_codealign(clone: Path) -> None:
    """Run folders with codes, with boxes, and of a translation that has one more epoch to go."""
    data, logs, scratch = Path("dataset/sim"), clone / "opencood" / "logs", clone / "hypes_parts"
    scratch.mkdir()
    shutil.rmtree(logs / "path_to_checkpoint", ignore_errors=True)
    translated = on_opv2v(scratch / "c2c.yaml", "stage2/m2_to_m1", data, train_params={"epoches": 7})
    run_folder(logs / "path_to_checkpoint", translated)
    run_folder(logs / "translation", translated)
    run_folder(logs / "path_to_late_checkpoint", late(scratch / "late.yaml", data))
    shutil.rmtree(scratch)


def small(file: Path, hypes: str) -> Hypes:
    changes = {
        "_base_": str(SHIPPED / hypes),
        "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL},
        "train_params": {"epoches": 7, "batch_size": 1, "num_workers": 0},
    }
    hypes_file = load_yaml(write_yaml(file, changes))
    file.unlink()
    return hypes_file


@pytest.fixture
def environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")}
    return own | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CONFIG_FILE": "hypes.yaml",
        "CHECKPOINT_FOLDER": "checkpoint",
        "OPENCOOD_MAX_BATCHES": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize(
    ("clone", "block"), [(one, one) for one in BLOCKS], ids=[one.title for one in BLOCKS], indirect=["clone"]
)
def test_runs_as_printed(block: Block, clone: Path, environment: dict[str, str]) -> None:
    for line in block.lines:
        # A folder that holds weights of epoch 1 has one more epoch to go.
        named = re.search(r"--model_dir (\S+)", line.command.replace("${CHECKPOINT_FOLDER}", "checkpoint"))
        epochs = "2" if named and list((clone / named[1]).glob("net_epoch*.pth")) else "1"
        done = subprocess.run(
            ["bash", "-c", line.command],
            cwd=clone, env=environment | {"OPENCOOD_MAX_EPOCHS": epochs},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert "Traceback" not in said, f"{line.command}\n{said[-3000:]}"
        assert (done.returncode != 0) is line.refused, f"{line.command}\n{said[-3000:]}"
        assert line.says in " ".join(said.split()), f"{line.command}\n{said[-3000:]}"
    assert [glob for glob in block.left if not list(clone.glob(glob))] == []


def test_tools_run_from_another_working_directory(tmp_path: Path, environment: dict[str, str]) -> None:
    for tool in ("list_methods", "heal_tools", "run_recipe", "train_w_kd", "inspect_checkpoint"):
        done = subprocess.run(
            [str(ROOT / "opencood" / "tools" / f"{tool}.py"), "--help"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_every_tool_can_be_called_by_its_name() -> None:
    tools = list((ROOT / "opencood" / "tools").glob("[a-z]*.py"))
    assert tools
    for path in tools:
        assert path.read_text().startswith("#!/usr/bin/env python\n") and os.access(path, os.X_OK), path
