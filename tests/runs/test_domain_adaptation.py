"""Training on two domains: OPV2V with labels, V2V4Real without; what is saved, and who learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.data.build import format_of
from opencood.data.paired import TARGET, PairedDataset
from opencood.errors import ConfigError, DataError
from opencood.evaluation.files import write_yaml
from opencood.experiments.adaptation import adapted, adapts_domains
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.experiments.hypes_step import step
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.step_scenes import make_scenes
from opencood.experiments.training import TrainingOptions, run_training
from opencood.losses.domain_adaptation import DomainAdaptation
from opencood.models.checkpoints import load_checkpoint

pytestmark = pytest.mark.slow
AXIAL = {
    "input_dim": 64,
    "mlp_dim": 32,
    "agent_size": 5,
    "window_size": 4,
    "dim_head": 16,
    "drop_out": 0.1,
    "depth": 1,
    "mask": True,
}
DOMAINS = {
    "DA_feature_head": 64, "DA_instance_head": 16, "DA_feature_weight": 0.1, "DA_instance_weight": 0.1,
    "grl_feature_weight": 0.1, "grl_instance_weight": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("domains")
    for name, seed in (("opv2v", 1), ("v2v4real", 2)):
        sizes: dict[str, Any] = {"preset": "mini", "scenarios": (1, 1, 0), "frames": 2, "seed": seed}
        simulate(SimulationOptions(out=folder / name, format=name, **sizes))
    return folder


def configured(domains: Path, tmp_path: Path, parity: str = "fixed") -> Path:
    grid = [-25.6, -25.6, -3, 25.6, 25.6, 1]
    return write_yaml(tmp_path / "adapted.yaml", {
        "_base_": str(SHIPPED / "sim" / "_point_pillar.yaml"), "name": "adapted", "flavor": "v2v4real",
        "parity": parity,
        "_everywhere_": {"cav_lidar_range": grid, "lidar_range": grid, "gt_range": grid},
        "root_dir": str(domains / "opv2v" / "train"), "root_dir_target": str(domains / "v2v4real" / "train"),
        "validate_dir": str(domains / "opv2v" / "validate"), "test_dir": None,
        "train_params": {"batch_size": 1, "epoches": 2, "eval_freq": 2, "save_freq": 1, "num_workers": 0},
        "fusion": {"core_method": "IntermediateFusionDataset", "dataset": "opv2v", "args": {"proj_first": True}},
        "postprocess": {"anchor_args": {"feature_stride": 2}, "dir_args": "_delete_"},
        "model": {"core_method": "point_pillar_fax", "args": {"fax_fusion": AXIAL, "dir_args": "_delete_", **DOMAINS}},
        "loss": {"core_method": "point_pillar_loss", "args": {"_replace_": True, "cls_weight": 1.0, "reg": 2.0}},
    })  # fmt: skip


@pytest.mark.parametrize("parity", ["published", "fixed"])
def test_a_training_on_two_domains(domains: Path, tmp_path: Path, parity: str) -> None:
    run = tmp_path / "run"
    run_training(configured(domains, tmp_path, parity), None, TrainingOptions(run_dir=run, device="cpu"))
    hypes = load_yaml(None, model_dir=run)
    plain = build_model(hypes)
    assert load_checkpoint(plain, run / "net_epoch2.pth").complete
    last = torch.load(run / "last.ckpt", weights_only=True)
    assert any(name.startswith("domains.") for name in last["model"])
    log = (run / "training.jsonl").read_text()
    assert "fea_loss" in log and "ins_loss" in log
    torch.manual_seed(0)
    model, _, _ = adapted(hypes, plain, build_loss(hypes), build_dataset(hypes, train=True))
    assert all(p.requires_grad == (parity == "fixed") for p in model.domains.parameters())


def test_pairs_and_batches(domains: Path, tmp_path: Path) -> None:
    hypes = load_yaml(configured(domains, tmp_path))
    assert adapts_domains(hypes)
    model, loss, paired = adapted(
        hypes, build_model(hypes).train(), build_loss(hypes), build_dataset(hypes, train=True)
    )
    assert isinstance(paired, PairedDataset) and len(paired) == len(paired.source) and paired.supervise_single is False
    first = [paired._partner.tolist()]
    paired.reinitialize(1)
    paired.reinitialize(0)
    assert paired._partner.tolist() == first[0]
    batch = paired.collate_batch_train([paired[0], (None, paired[1][1])])["ego"]
    assert "object_bbx_center" in batch and "object_bbx_center" not in batch[TARGET]
    outputs = model(batch)
    total, terms = loss(outputs, batch["label_dict"])
    total.backward()
    assert {"fea_loss", "ins_loss", "conf_loss"} <= set(terms)
    assert model.domains.feature_head.conv1_da.weight.grad.any()
    assert "target_feature" not in model({key: value for key, value in batch.items() if key != TARGET})
    assert paired.collate_batch_train([(None, None)]) is None
    with pytest.raises(ConfigError, match="DA_instance_head: 16, but the class map gives 64"):
        model.domains.parts(outputs | {"cls_preds": torch.zeros(1, 2, 4, 128)}, {})


def test_the_check_of_files_steps_on_two_domains(domains: Path, tmp_path: Path, monkeypatch: Any) -> None:
    hypes = load_yaml(configured(domains, tmp_path))
    make_scenes(tmp_path, {format_of(hypes)})
    seen = []
    monkeypatch.setattr(DomainAdaptation, "parts", lambda *_: seen.append(_) or {})
    assert step(hypes, tmp_path).loss is not None and len(seen) == 1


def test_what_is_wrong_is_said(domains: Path, tmp_path: Path) -> None:
    hypes = load_yaml(configured(domains, tmp_path))
    missing = hypes.replaced({**hypes, "root_dir_target": str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match="nowhere"):
        adapted(missing, build_model(missing), build_loss(missing), None)
    del hypes["model"]["args"]["DA_instance_head"]
    with pytest.raises(ConfigError, match="DA_instance_head"):
        adapted(hypes, build_model(hypes), build_loss(hypes), None)
    with pytest.raises(ConfigError, match="of this framework only"):
        adapted(hypes, torch.nn.Identity(), build_loss(hypes), None)
