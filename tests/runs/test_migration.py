"""The section "Bring a run" of docs/migration.md is run as it stands there, on a run of CoAlign's kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_file
from opencood.config.save import save_config
from opencood.experiments.build import build_from_scratch
from opencood.experiments.shrink import shrink
from opencood.models.checkpoints import load_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text()
SECTION = PAGE.partition("## Bring a run")[2].partition("\n## ")[0]
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", SECTION, re.DOTALL) for line in block.splitlines()]
COALIGN = SHIPPED / "dairv2x" / "lidar_only_with_noise" / "coalign" / "pointpillar_coalign_woba.yaml"


def single_scale() -> Hypes:
    """CoAlign's detector with one attention behind the backbone."""
    hypes = load_file(COALIGN)
    args = {**hypes["model"]["args"], "att": {"feat_dim": 256}}
    return shrink(hypes.replaced({**hypes, "model": {"core_method": "point_pillar_baseline", "args": args}}))


@pytest.fixture
def folder(clone: Path, tmp_path: Path) -> Path:
    """A clone with data and an old run folder: a published configuration and a plain state dict."""
    (tmp_path / "opencood" / "logs" / "old_run").mkdir(parents=True)
    for entry in (ROOT / "opencood").iterdir():
        if entry.name not in ("logs", "__pycache__"):
            (tmp_path / "opencood" / entry.name).symlink_to(entry)
    (tmp_path / "dataset").symlink_to(clone / "dataset")
    old, hypes = tmp_path / "opencood" / "logs" / "old_run", single_scale()
    short = {**hypes["train_params"], "epoches": 2, "batch_size": 1, "save_freq": 1, "eval_freq": 1, "num_workers": 0}
    save_config(hypes.replaced({**hypes, "train_params": short, "parity": "published"}), old)
    torch.manual_seed(0)
    torch.save(build_from_scratch(hypes).state_dict(), old / "net_epoch1.pth")
    return tmp_path


def test_bring_a_run(folder: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OPENCOOD_MAX_BATCHES": "1",
        "OMP_NUM_THREADS": "1",
    }
    told = {}
    for command in COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{(done.stdout + done.stderr)[-3000:]}"
        told[command] = done.stdout + done.stderr
    check, _, inference, _, changed, *_, renamed = told.values()
    assert "0 missing, 0 unexpected, 0 misshapen" in inference and "parity published" in inference
    assert "flavor coalign" in inference and "point_pillar_baseline" in check
    assert "largest difference" in changed
    assert "largest difference" not in renamed and "only first" not in renamed.splitlines()[-1]

    with_types = load_file(SHIPPED / "opv2v" / "LiDAROnly" / "lidar_attfuse.yaml")
    renamed_file = folder / "opencood" / "logs" / "as_m1" / "net_epoch1.pth"
    report = load_checkpoint(build_from_scratch(with_types), renamed_file)
    assert report.complete, report
