"""The example method of the README is run as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from opencood.config.loader import load_yaml
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.experiments.simulate import SimulationOptions, simulate

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str) -> dict[str, str]:
    """Code blocks of the README by the file name in their first line."""
    found = re.findall(rf"```{language}\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return dict(found)


def test_a_method_in_one_file(tmp_path, monkeypatch):
    (tmp_path / "opencood").symlink_to(ROOT / "opencood", target_is_directory=True)
    for name, text in (blocks("python") | blocks("yaml")).items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    simulate(SimulationOptions(out=Path("dataset/sim"), preset="mini", seed=1))
    hypes = load_yaml("mean.yaml")
    dataset, model, loss = build_dataset(hypes, train=True), build_model(hypes).train(), build_loss(hypes)
    ego = dataset.collate_batch_train([dataset[0], dataset[1]])["ego"]
    total, _ = loss(model(ego), ego["label_dict"])
    total.backward()
    assert type(model.fusion_net).__name__ == "MeanFusion"
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
