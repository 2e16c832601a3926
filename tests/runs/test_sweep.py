"""A sweep over detectors and disturbances: resumable, one table, pictures."""

import csv
from pathlib import Path

import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.evaluation.files import write_yaml
from opencood.experiments import sweep as module
from opencood.experiments.build import build_model
from opencood.experiments.evaluate import evaluate_file
from opencood.experiments.published import results_page
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.tools import sweep as tool

pytestmark = pytest.mark.slow
FACTORS = "--pose_std 0:0.4:0.4 --delay 0,1 --drop 0,0.5 --precision float32,int8 --agents 1-2 --weather clear,fog"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    out = tmp_path_factory.mktemp("sweep")
    simulate(SimulationOptions(out=out / "data", preset="mini", seed=5))
    splits = {key: str(out / "data" / split) for key, split in
              (("root_dir", "train"), ("validate_dir", "validate"), ("test_dir", "test"))}  # fmt: skip
    folders = []
    for detector in ("late", "intermediate"):
        content = {"_base_": str(SHIPPED / "sim" / f"{detector}.yaml"), **splits}
        hypes = load_yaml(write_yaml(out / f"{detector}.yaml", content))
        save_config(hypes, out / detector)
        torch.manual_seed(0)
        model = build_model(hypes)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "cls_head" in name and name.endswith("bias"):
                    parameter.fill_(-1.1)
        torch.save(model.state_dict(), out / detector / "net_epoch1.pth")
        folders.append(out / detector)
    return folders


def test_a_sweep_is_a_table_pictures_and_nothing_twice(runs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    common = ["--out", str(out), "--limit", "1", "--workers", "0", "--device", "cpu", *FACTORS.split()]
    common += ["--publish", str(tmp_path / "kept" / "both"), "--remark", "One frame."]
    command = ["--model_dir", str(runs[0]), "--model_dir", str(runs[1]), *common]
    assert tool.main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("\n") == 2 * 8 and not out.exists()
    assert tool.main(command) == 0
    with (out / "table.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2 * 8 and {row["method"] for row in rows} == {"late", "intermediate"}
    lossy = next(row for row in rows if row["method"] == "late" and row["drop"] == "0.5")
    stored = evaluate_file(out / "late" / "drop_0.5.npz")
    assert float(lossy["AP@0.3 frame_order"]) == pytest.approx(stored.ap(0.3, "frame_order"), abs=1e-4)
    assert float(lossy["AP@0.5 lower"]) <= float(lossy["AP@0.5 global_sort"]) <= float(lossy["AP@0.5 upper"]) + 1e-4
    text = (out / "table.tex").read_text()
    page = results_page(tmp_path / "kept", tmp_path)
    assert "--drop 0,0.5" in page and "One frame." in page and "![drop](kept/both/drop.png)" in page
    assert (tmp_path / "kept/both/table.csv").read_text() == (out / "table.csv").read_text()
    assert text.startswith(r"\begin{tabular}{lrrrrrr") and r"pose\_std" in text and text.count(r"\\") == 17
    assert (out / "table.md").read_text().count("\n") == 18
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {
        f"{n}.png" for n in ("pose_std", "delay", "drop", "precision", "agents", "weather", "bandwidth")
    }

    made = []
    monkeypatch.setattr(module, "run_inference", lambda options: made.append(options.save_detections.stem))
    before, kept = (out / "table.csv").read_text(), tmp_path / "kept" / "both" / "run.yaml"
    spent = yaml.safe_load(kept.read_text())["seconds"]
    assert tool.main(command) == 0
    assert made == [] and (out / "table.csv").read_text() == before
    assert yaml.safe_load(kept.read_text())["seconds"] == spent > 0  # those of the call that evaluated
    weights = torch.load(runs[0] / "net_epoch1.pth")
    torch.save(
        {name: value + 0.0 for name, value in weights.items()} | {"more": torch.zeros(1)}, runs[0] / "net_epoch2.pth"
    )
    tool.main([*command, "--agents", "1"])  # other weights: all of that detector is evaluated again
    (runs[0] / "net_epoch2.pth").unlink()
    assert len(made) == 7


def test_what_a_data_set_cannot_do_is_named_and_the_rest_goes_on(runs, tmp_path, capsys):
    command = ["--model_dir", str(runs[0]), "--out", str(tmp_path), "--limit", "1", "--workers", "0", "--drop", "0.2"]
    assert tool.main([*command, "--names", "mine", "--fusion_method", "no", "--agents", "2"]) == 1
    told = capsys.readouterr().out
    assert "failed: mine/agents_2" in told and "mine" in (tmp_path / "table.md").read_text()
