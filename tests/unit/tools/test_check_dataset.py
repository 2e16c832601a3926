"""check_dataset: what it recognises, what it finds, what it advises, and its exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.errors import ConfigError, DataError
from opencood.experiments.dataset_check import check
from opencood.experiments.dataset_check.places import find_splits
from opencood.experiments.pack import pack
from opencood.geometry.poses import transform_points, x_to_world
from opencood.tools.check_dataset import main
from tests.faults.trees import TREES, Tree
from tests.unit.data.conftest import metadata_of, pcd_bytes

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SCENARIO = "2021_01_01_10_00_00"
POSE = [100.0, 50.0, 1.9, 0.0, 30.0, 0.0]
OBJECTS = {7: (110.0, 55.0, 0.8, 20.0), 8: (92.0, 40.0, 0.7, -100.0), 9: (104.0, 62.0, 0.7, 0.0)}

Make = Callable[[str], Tree]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """``made(format)`` -> a small tree in a folder whose name says nothing."""
    return lambda name: TREES[name](tmp_path / "data" / "train")


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def report_of(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("name", TREES)
def test_every_format_is_recognised_and_whole(name: str, made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    tree = made(name)
    place = tree.folder if name in ("dairv2x", "v2xsim") else tree.folder.parent
    code, text = report_of(capsys, place)
    assert code == 0 and text.endswith("training can start\n"), text
    assert f"({name})" in text and "2 agents a frame" in text and "problem" not in text
    assert f"{tree.root} " in text, "the value of root_dir"
    assert ("1 of 2 roadside" in text) == (name in ("v2xset", "v2xreal", "dairv2x"))
    if name == "v2xreal":
        assert "vehicle 4, pedestrian 4" in text


def test_sensors_are_counted(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    made("opv2v")
    _, text = report_of(capsys, made("opv2v").root)
    for line in ("camera         4 files, 16 x 12", "depth          4 files", "visibility     4 files"):
        assert f"ok       {line}" in text
    assert "ok       lidar 32       4 files" in text and "80 / 80 / 80 points" in text
    assert "note     lidar 16       none" in text and "OPV2V-H-LiDAR-part*" in text


def test_what_is_needed_must_be_there(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = made("opv2v").root
    shutil.rmtree(root / SCENARIO / "none", ignore_errors=True)
    assert main([str(root), "--need", "camera", "lidar 32"]) == 0
    for picture in root.rglob("*_bev_visibility.png"):
        picture.unlink()
    assert main([str(root)]) == 0
    capsys.readouterr()
    code, text = report_of(capsys, root, "--need", "visibility")
    assert code == 1 and "not ready: train" in text
    assert "problem  visibility     4 missing of 4 files; needed for label_type: camera" in text
    assert "OPV2V/additional/<split>" in text
    with pytest.raises(ConfigError, match="radar.*camera"):
        main([str(root), "--need", "radar"])


@pytest.mark.parametrize(
    ("name", "file", "damage", "line", "advice"),
    [
        ("opv2v", "1/000070.pcd", None, "lidar          1 missing of 4 files", "train.zip"),
        ("opv2v", "1/000070.pcd", b"# .PCD", "lidar          1 broken of 4 files", "train.zip"),
        ("opv2v", "2/000068.yaml", b"lidar_pose: [1", "metadata       1 broken of 2 frames", "archive of this split"),
        ("opv2v", "2/000068_camera0.png", b"x", "camera         1 broken of 4 files", "same archives"),
        ("v2xreal", "1/000068.bin", None, "lidar          1 missing of 4 files", "V2X-Real"),
    ],
)
def test_missing_and_broken_files(
    name: str, file: str, damage: bytes | None, line: str, advice: str, made: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(name).root / SCENARIO / file
    path.unlink() if damage is None else path.write_bytes(damage)
    code, text = report_of(capsys, path.parents[2])
    assert code == 1 and f"problem  {line}" in text and str(path) in text and advice in text, text


def test_label_lists_of_pairs_that_only_some_methods_read(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = made("dairv2x").folder
    shutil.rmtree(root / "cooperative" / "label_world_backup")
    code, text = report_of(capsys, root)
    assert code == 0 and "note     camera labels  none (label_type: camera cannot be used)" in text, text
    assert "complemented annotation" in text
    assert main([str(root), "--need", "camera labels"]) == 1
    (root / "vehicle-side/label/lidar/015003.json").unlink()
    code, text = report_of(capsys, root)
    assert code == 0 and "note     own labels     1 missing or broken of 2 frames" in text, text


def test_jumps_gaps_and_stamps(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = made("v2xset").root
    late, unit = root / SCENARIO / "1/000070.yaml", root / SCENARIO / "-1/000070.yaml"
    assert "no jump in 2 steps" in report_of(capsys, root)[1]
    original = late.read_text()
    edit(late, lambda content: content.update(lidar_pose=[100.0, 90.0, 1.9, 0.5, 30.0, -0.3]))
    code, text = report_of(capsys, root)
    assert code == 1 and f"{SCENARIO}/1 from 000068 to 000070: 40.0 m, 0 degrees" in text
    late.write_text(original)
    edit(unit, lambda content: content.update(lidar_pose=[104.0, 48.0, 4.0, 0.0, 10.0, 0.0]))
    assert "-1 from 000068 to 000070: 1.0 m" in report_of(capsys, root)[1], "a roadside unit stands still"
    unit.unlink()
    code, text = report_of(capsys, root)
    assert code == 1 and f"({SCENARIO}: agent -1 lacks 1)" in text


def write_drive(root: Path, turn: np.ndarray, stamps: range, speed: float = 36.0) -> None:
    """A car at 10 m/s that has 20 points in every object, which are turned by (3,) signs when written."""
    place = root / "s" / "1"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for stamp in stamps:
        pose = [POSE[0] + 0.5 * stamp, *POSE[1:]]
        content = metadata_of("1", pose, OBJECTS) | {"ego_speed": speed}
        (place / f"{stamp:06d}.yaml").write_text(yaml.safe_dump(content))
        centres = np.array([[x, y, z] for x, y, z, _ in OBJECTS.values()])
        world = np.concatenate([centre + rng.uniform(-0.4, 0.4, (20, 3)) for centre in centres])
        local = transform_points(world, np.linalg.inv(x_to_world(pose))) * turn
        points = np.column_stack([local, np.zeros(len(local))]).astype(np.float32)
        (place / f"{stamp:06d}.pcd").write_bytes(pcd_bytes(points))


def test_boxes_and_points_lie_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_drive(tmp_path / "right", np.array([1, 1, 1]), range(0, 20, 2))
    code, text = report_of(capsys, tmp_path / "right")
    assert code == 0 and "100% of 30 boxes within 30 m hold points" in text
    assert "stamps 2 apart, 10.0 Hz" in text, "1 m a step at 36 km/h"
    write_drive(tmp_path / "mirrored", np.array([1, -1, 1]), range(0, 20, 2))
    code, text = report_of(capsys, tmp_path / "mirrored")
    assert code == 1 and "problem  points in boxes" in text and "with y mirrored it would be 100%" in text
    write_drive(tmp_path / "elsewhere", np.array([-1, 0.3, 1]), range(0, 20, 2))
    code, text = report_of(capsys, tmp_path / "elsewhere")
    assert code == 1 and "different frames of reference" in text


def test_boxes_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_drive(tmp_path / "data", np.array([1, 1, 1]), range(0, 30, 2))
    file = tmp_path / "data/s/1/000004.yaml"
    edit(file, lambda content: content["vehicles"][7].update(extent=[40.0, 1.0, 1.0]))
    edit(file, lambda content: content["vehicles"][8].update(location=[500.0, 40.0, 0.0]))
    code, text = report_of(capsys, tmp_path / "data")
    assert code == 1 and "1 of 45 boxes shorter than 0.1 m or longer than 30 m" in text
    assert "1 of 45 boxes farther than 200 m" in text
    (tmp_path / "data/s/1/000014.yaml").unlink()
    assert (
        "note     frame rate     stamps 2 apart, 10.0 Hz by the speed and the way of agents; 1 of 13 steps"
        in (report_of(capsys, tmp_path / "data")[1])
    )


def test_the_report_as_json(made: Make, tmp_path: Path) -> None:
    tree, file = made("v2xset"), tmp_path / "report.json"
    assert main([str(tree.root), "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    (split,) = found["splits"]
    assert found["can_start"] and split["format"] == "v2xset" and split["root"] == str(tree.root)
    assert split["figures"]["frames"] == 2 and split["figures"]["roadside_agents"] == 1
    assert split["figures"]["files"]["lidar ok"] == 4
    assert {finding["status"] for finding in split["findings"]} == {"ok", "note"}


def test_quick_reads_few_clouds_but_misses_no_file(
    made: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "_QUICK_FRAMES", 1)
    root = made("v2xset").root
    cloud = root / SCENARIO / "1/000070.pcd"
    cloud.write_bytes(b"broken")
    assert main([str(root), "--quick"]) == 0 and main([str(root)]) == 1
    cloud.unlink()
    capsys.readouterr()
    code, text = report_of(capsys, root, "--quick")
    assert code == 1 and "1 missing of 4 files" in text


def test_scenarios_of_two_splits_and_folders_without_frames(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    tree = made("v2xset")
    shutil.copytree(tree.root, tree.root.parent / "test")
    (tree.root / "2021_empty").mkdir()
    code, text = report_of(capsys, tree.root.parent)
    assert code == 0 and f"1 also in an earlier split, such as {SCENARIO}" in text
    assert "1 folder without a frame: 2021_empty" in text


@pytest.mark.slow
def test_several_processes_find_the_same(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_CHUNK", 1)
    root = made("v2xset").root
    (root / SCENARIO / "1/000070.pcd").unlink()
    alone, together = (
        [report.as_plain() for report in check.check_dataset(check.CheckOptions(root, jobs=jobs))] for jobs in (1, 2)
    )
    assert alone == together


def test_what_is_no_data_set(tmp_path: Path, made: Make) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        main([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no data set recognised.*--format \(.*dairv2x"):
        main([str(tmp_path / "empty")])
    with pytest.raises(ConfigError, match="opv2x"):
        main([str(made("opv2v").root), "--format", "opv2x"])


@pytest.mark.parametrize("name", ["opv2v", "dairv2x", "v2xsim"])
def test_a_packed_data_set_is_checked_like_its_folder(name: str, made: Make, tmp_path: Path) -> None:
    tree = made(name)
    pack(tree.folder, tmp_path / "packed")
    figures = [
        [report.as_plain()["figures"] for report in check.check_dataset(check.CheckOptions(place))]
        for place in (tree.folder, tmp_path / "packed")
    ]
    assert figures[0] == figures[1] and figures[0]


def test_an_unreadable_list_of_frames_is_a_problem(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    tree = made("v2xsim")
    tree.root.write_bytes(b"\x80")
    code, text = report_of(capsys, tree.root)
    assert code == 1 and "problem  opening" in text and str(tree.root) in text


def test_names_decide_between_formats_that_look_alike(tmp_path: Path) -> None:
    for place, expected in (("OPV2V/test", "opv2v"), ("V2XSET/test", "v2xset"), ("other/test", "v2xset")):
        TREES["v2xset"](tmp_path / place)
        assert find_splits(tmp_path / place)[0].format == expected
    (tmp_path / "other/simulation.json").write_text('{"format": "v2xreal"}')
    assert find_splits(tmp_path / "other")[0].format == "v2xreal"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
@pytest.mark.parametrize(
    "place", ["opv2v_tiny", "dair_v2x_tiny", "v2xsim_tiny", "real/v2xr_frame", "real/dair_v2x_c_frame"]
)
def test_shared_data_are_whole(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = report_of(capsys, SHARED / place)
    assert code == 0, text
    shares = [
        int(line.split("boxes")[-2].split()[0].rstrip("%")) for line in text.splitlines() if "hold points" in line
    ]
    assert shares and min(shares) > 70
