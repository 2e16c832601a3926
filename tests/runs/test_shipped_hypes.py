"""Every shipped hypes file is loaded, built and stepped once on simulated data, by existing."""

import math

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.overrides import with_range
from opencood.experiments.build import build_dataset, build_loss, build_model

pytestmark = pytest.mark.slow
FILES = sorted(
    path.relative_to(SHIPPED)
    for path in SHIPPED.rglob("*.yaml")
    if not any(part.startswith("_") for part in path.relative_to(SHIPPED).parts)
)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_steps_once_without_edits(file, clone, monkeypatch):
    monkeypatch.chdir(clone)
    hypes = load_yaml(SHIPPED / file)
    if "camera" in hypes["input_source"] and hypes["fusion"].get("dataset", "opv2v") != "opv2v":
        pytest.skip("reads the cameras of a format that is simulated without")
    if "heter" in hypes:
        hypes = with_range(hypes, 25.6, 25.6)  # the same network on a smaller map
    dataset = build_dataset(hypes, train=True)
    model, loss = build_model(hypes).train(), build_loss(hypes)
    ego = dataset.collate_batch_train([dataset[0]])["ego"]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    outputs = model(ego)
    total, _ = loss(outputs, ego["label_dict"])
    trained = file.parent.name != "final_infer"  # published there: a loss that knows no agent alone
    if dataset.supervise_single and trained:
        total = total + loss(outputs, ego["label_dict_single"], "_single")[0]
    total.backward()
    norms = [float(p.grad.norm()) for p in model.parameters() if p.grad is not None]
    optimizer.step()
    assert math.isfinite(float(total.detach()))
    assert all(math.isfinite(norm) for norm in norms)
    assert sum(norms) > 0
