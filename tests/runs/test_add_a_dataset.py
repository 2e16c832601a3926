"""docs/add-a-dataset.md is run as it stands there: its data are made, checked and trained on with its reader."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from opencood.config.loader import load_yaml
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.tools.check_dataset import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "add-a-dataset.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page and the data its script makes; a plugin is imported from one place only."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "opencood").symlink_to(ROOT / "opencood", target_is_directory=True)
    for name, text in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path("make_crossings.py")
    return folder


@pytest.fixture
def place(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as working directory."""
    monkeypatch.chdir(made)
    return made


CHECK = ["crossings", "--plugin", "crossings_reader.py", "--format", "crossings"]


def test_the_reader_passes_the_check(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"check_dataset.py {' '.join(CHECK)}" in PAGE.read_text()
    assert main(CHECK) == 0
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    shown = PAGE.read_text().partition("prints, for each split,")[2].partition("`points in boxes`")[0]
    for line in filter(None, map(str.strip, shown.splitlines())):
        assert " ".join(line.split()) in printed, line


def test_the_check_finds_a_reader_that_mirrors(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = place / "mirrored_reader.py"
    text = (place / "crossings_reader.py").read_text()
    text = text.replace('"reader", "crossings"', '"reader", "mirrored"')
    reader.write_text(text.replace("Objects(np.array", "mirrored(np.array") + MIRRORED)
    assert main(["crossings", "--plugin", str(reader), "--format", "mirrored"]) == 1
    assert "problem  points in boxes" in capsys.readouterr().out


MIRRORED = """

def mirrored(ids, corners):
    return Objects(ids, corners * [1, -1, 1])
"""


@pytest.mark.slow
def test_its_data_are_trained_on(place: Path) -> None:
    hypes = load_yaml("crossings.yaml")
    dataset, model, loss = build_dataset(hypes, train=True), build_model(hypes).train(), build_loss(hypes)
    egos = {dataset.frame(index).ego.id for index in range(len(dataset))}
    assert egos == {"bus", "tram"}, "in training anybody may be ego"
    ego = dataset.collate_batch_train([dataset[0], dataset[1]])["ego"]
    total, _ = loss(model(ego), ego["label_dict"])
    total.backward()
    assert torch.isfinite(total) and ego["record_len"].tolist() == [2, 2]
    assert int(ego["object_bbx_mask"].sum()) == 6, "three objects in each of two frames"
