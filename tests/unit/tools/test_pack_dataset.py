"""The command line of packing: summary, exit codes, errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import opencood
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.tools import pack_dataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "data/scenario/1"
    folder.mkdir(parents=True)
    (folder / "000000.yaml").write_text("lidar_pose: [0, 0, 0, 0, 0, 0]\nvehicles: {}\n" * 5)
    return tmp_path / "data"


def test_pack_then_verify(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "packed"
    assert pack_dataset.main([str(source), str(packed), "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "texts, deflated" in out and "the same to the bit" in out
    assert pack_dataset.main(["--verify", str(packed)]) == 0
    assert "every checksum agrees" in capsys.readouterr().out
    (source / "more.txt").write_text("x")
    assert pack_dataset.main(["--verify", str(packed)]) == 1
    assert "more.txt is new" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["data"], ["--verify", "a", "b"], ["data", "out", "--jobs", "0"], ["--verify", "a", "--prepare", "b"]]
)
def test_arguments_that_do_not_fit(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        pack_dataset.main(arguments)
    assert stopped.value.code == 2


def test_pack_and_prepare_then_prepare_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(SimulationOptions(tmp_path / "data", "mini", scenarios=(1, 0, 1), agents=(2, 2)))
    yaml = tmp_path / "own.yaml"
    base = Path(opencood.__file__).parent / "hypes_yaml/exemplar.yaml"
    splits = (f"{key}: {tmp_path}/data/{split}" for key, split in (("root_dir", "train"), ("validate_dir", "test")))
    yaml.write_text("\n".join([f"_base_: {base}", *splits, f"test_dir: {tmp_path}/nowhere", ""]))
    arguments = [str(tmp_path / "data"), str(tmp_path / "packed"), "--prepare", str(yaml)]
    assert pack_dataset.main(arguments) == 0
    out = capsys.readouterr().out
    assert "packed in" in out and "voxels of" in out
    assert pack_dataset.main(arguments) == 0
    out = capsys.readouterr().out
    assert "packed in" not in out and "were there before" in out
    assert pack_dataset.main([str(tmp_path / "packed"), "--prepare", str(yaml)]) == 0
    assert "were there before" in capsys.readouterr().out
