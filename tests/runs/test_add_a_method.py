"""The examples of docs/add-a-method.md are run as they stand there: every file, every command."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opencood.communication import Channel
from opencood.config.loader import load_yaml
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.experiments.training import TrainingOptions, run_training

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^python .*", re.sub(r"```\w+\n.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the files of the page and the simulated data it begins with."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "opencood").symlink_to(ROOT / "opencood", target_is_directory=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    run(COMMANDS[0], folder)
    return folder


def run(command, folder):
    words = shlex.split(command)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_the_page_names_its_files_and_commands():
    assert set(FILES) == {"top_cells.py", "top_cells.yaml", "bird_view.py", "bird_view.yaml"}
    assert len(COMMANDS) == 5


@pytest.mark.parametrize("command", [line for line in COMMANDS[1:] if "train.py" not in line])
def test_commands(command, folder):
    out = run(command, folder)
    assert "stepped" in out if "check_hypes" in command else "17.1 KiB" in out


@pytest.mark.parametrize("command", [line for line in COMMANDS if "train.py" in line])
def test_training(command, here, tmp_path):
    hypes = shlex.split(command)[-1]
    short = "train_params: {epoches: 1, batch_size: 2, eval_freq: 1, max_train_batches: 1, num_workers: 0}\n"
    (here / f"short_{hypes}").write_text(f"_base_: {hypes}\n{short}")
    run_training(f"short_{hypes}", options=TrainingOptions(run_dir=tmp_path, sanity_frames=0))
    assert list(tmp_path.glob("net_epoch*.pth"))


def test_the_link_sends_what_is_counted(here):
    hypes = load_yaml("top_cells.yaml")
    dataset = build_dataset(hypes, train=False)
    torch.manual_seed(0)
    model = build_model(hypes).eval()
    ego = dataset.collate_batch_test([dataset[0]])["ego"]
    with torch.inference_mode():
        direct = model(ego)["cls_preds"]
        model.channel = Channel()
        model.channel.meter.start_frame()
        assert torch.allclose(model(ego)["cls_preds"], direct, atol=1e-6)
        sent = model.channel.meter.bytes_of_frame()
        alone, lost = model(ego | {}), Channel(drop=1.0)
        model.channel = lost
        assert not torch.equal(model(ego)["cls_preds"], alone["cls_preds"])
    collaborators = int(ego["record_len"][0]) - 1
    assert collaborators > 0
    assert 256 * 68 <= sent / collaborators <= 256 * 68 + 200


def test_gradients_pass_the_link_and_somebody_elses_module(here):
    for name in ("top_cells.yaml", "bird_view.yaml"):
        hypes = load_yaml(name)
        dataset, model, loss = build_dataset(hypes, train=True), build_model(hypes).train(), build_loss(hypes)
        ego = dataset.collate_batch_train([dataset[0], dataset[1]])["ego"]
        total, _ = loss(model(ego), ego["label_dict"])
        total.backward()
        assert torch.isfinite(total)
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters()), name
