"""The index: parsed once, read anew when the folder changes, honest about broken files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opencood.data.draws import Draws
from opencood.data.readers import opv2v
from opencood.data.readers.base import ReaderSettings
from opencood.data.readers.opv2v import OPV2VReader
from opencood.errors import DataError
from opencood.geometry.boxes import corners_to_boxes
from tests.unit.data.conftest import AGENTS, OBJECTS, STAMPS

Write = Callable[..., Path]


def open_reader(root: Path, **changes: Any) -> OPV2VReader:
    reader = OPV2VReader(ReaderSettings(root, "validate_dir", train=False, max_cav=5, **changes))
    reader.replan(Draws.keyed(0))
    return reader


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Metadata files in the order they were parsed."""
    files: list[Path] = []
    original = opv2v.parse_metadata

    def counting(path: Path, *options: Any) -> Any:
        files.append(path)
        return original(path, *options)

    monkeypatch.setattr(opv2v, "parse_metadata", counting)
    return files


def test_metadata_is_parsed_once_and_then_comes_from_the_cache(folder: Write, parsed: list[Path]) -> None:
    root = folder()
    first = open_reader(root)
    assert len(parsed) == len(AGENTS) * len(STAMPS)
    parsed.clear()
    second = open_reader(root)
    assert parsed == []
    for agent, again in zip(first.frame(1).agents, second.frame(1).agents, strict=True):
        np.testing.assert_array_equal(agent.lidar_pose, again.lidar_pose)
        np.testing.assert_array_equal(agent.objects.corners, again.objects.corners)
        assert agent.objects.ids.tolist() == again.objects.ids.tolist()


def test_a_changed_file_is_read_anew(folder: Write, parsed: list[Path], own_cache: Path) -> None:
    root = folder()
    open_reader(root)
    file = next(root.glob("*/641/000070.yaml"))
    file.write_text(file.read_text().replace("106.0", "107.25", 1) + "\n")
    parsed.clear()
    changed = open_reader(root)
    assert len(parsed) == len(AGENTS) * len(STAMPS)
    assert any(107.25 in agent.lidar_pose or 107.25 in agent.objects.corners for agent in changed.frame(1).agents)
    assert len(list(own_cache.rglob("*.npz"))) == 1, "the outdated cache is removed"


def test_a_cache_that_cannot_be_written_is_no_error(
    folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert len(open_reader(folder())) == len(STAMPS)
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_cache_is_parsed_again(
    damage: str, folder: Write, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder()
    open_reader(root)
    (cache,) = own_cache.rglob("*.npz")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 4
    cache.write_bytes(content[:100] if damage == "cut" else content)
    with caplog.at_level(logging.WARNING):
        assert len(open_reader(root)) == len(STAMPS)
    assert "unreadable" in caplog.text


def test_what_a_metadata_file_says(folder: Write) -> None:
    frame = open_reader(folder()).frame(0)
    assert [agent.id for agent in frame.agents] == ["1045", "641"]
    assert (frame.scenario, frame.stamp, frame.index) == ("2021_01_01_10_00_00", "000068", 0)
    ego = frame.ego
    assert ego.lidar_pose.tolist() == AGENTS["1045"]
    assert sorted(ego.objects.ids.tolist()) == [7, 8, 641]
    boxes = corners_to_boxes(ego.objects.corners, "hwl")
    x, y, z, yaw = OBJECTS[7]
    found = boxes[ego.objects.ids.tolist().index(7)]
    np.testing.assert_allclose(found, [x, y, z, 1.4, 1.8, 4.4, np.radians(yaw)], atol=1e-9)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "000070.yaml"),
        (lambda text: "", "found nothing"),
        (lambda text: "lidar_pose: [1, 2", "broken YAML"),
        (lambda text: text.replace("lidar_pose", "pose"), "missing key 'lidar_pose'"),
        (lambda text: text.replace("1.9", ".nan", 1), "'lidar_pose' must be 6 finite numbers"),
        (lambda text: text.replace("extent", "size"), "missing key 'extent'"),
        (lambda text: text.replace("vehicles:", "vehicles: 3\nrest:"), "000070.yaml"),
    ],
)
def test_broken_metadata_is_one_clear_error(folder: Write, damage: Callable[[str], str], message: str) -> None:
    root = folder()
    file = next(root.glob("*/641/000070.yaml"))
    file.write_text(damage(file.read_text()))
    with pytest.raises(DataError, match=message) as error:
        open_reader(root)
    assert "on_bad_frame: skip" in str(error.value)
    skipping = open_reader(root, skip_broken=True)
    assert len(skipping.frame(0).agents) == 2
    with pytest.raises(DataError, match=r"000070\.yaml"):
        skipping.frame(1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("plan_trajectory:\n- - 1.0\n  - 2.0\n  - 3.0\n", "plan_trajectory: [[1.0, 2.0],\n  [3.0]]\n"),
        ("plan_trajectory:\n- - 1.0", "plan_trajectory:\n- - &one 1.9"),
        ("plan_trajectory:\n- - 1.0\n  - 2.0\n  - 3.0\n", ""),
    ],
)
def test_the_trajectory_is_never_needed(folder: Write, old: str, new: str) -> None:
    root = folder()
    file = next(root.glob("*/641/000070.yaml"))
    text = file.read_text()
    assert old in text
    changed = text.replace(old, new)
    if "&one" in new:  # a value that refers into the trajectory
        head, _, tail = changed.partition("plan_trajectory:")
        changed = "plan_trajectory:" + tail + head.replace("1.9", "*one")
    file.write_text(changed)
    assert open_reader(root).frame(1).agents[1].lidar_pose.tolist() == AGENTS["641"]


def test_missing_empty_and_agentless_folders(folder: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="validate_dir: no folder"):
        open_reader(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no <scenario>"):
        open_reader(tmp_path / "empty")
    root = folder()
    (root / "2021_02_02_00_00_00" / "notes").mkdir(parents=True)
    with pytest.raises(DataError, match="2021_02_02_00_00_00 has no valid agent"):
        open_reader(root)
    assert len(open_reader(root, skip_broken=True)) == len(STAMPS)


@pytest.mark.parametrize("left", [".ipynb_checkpoints", "__MACOSX", "__pycache__"])
def test_what_other_programs_leave_is_no_scenario_and_no_agent(folder: Write, left: str) -> None:
    root = folder()
    (root / left / "641").mkdir(parents=True)
    next(root.glob("2*")).joinpath(left).mkdir()
    reader = open_reader(root)
    assert len(reader) == len(STAMPS) and len(reader.frame(0).agents) == len(AGENTS)


def test_an_agent_without_the_stamp_of_the_ego(folder: Write) -> None:
    root = folder()
    next(root.glob("*/641/000070.yaml")).unlink()
    reader = open_reader(root)
    assert len(reader.frame(0).agents) == 2
    with pytest.raises(DataError, match="agent 641 has no metadata file for stamp 000070"):
        reader.frame(1)


def test_other_files_and_the_broken_published_frame_are_ignored(folder: Write) -> None:
    root = folder(scenario="2021_08_20_21_10_24", stamps=("000264", "000265"))
    (root / "readme.txt").write_text("x")
    (root / "2021_08_20_21_10_24" / "data_protocol.yaml").write_text("a: 1")
    (root / "2021_08_20_21_10_24" / "641" / "000264_additional.yaml").write_text("a: 1")
    reader = open_reader(root)
    assert len(reader) == 1
    assert reader.frame(0).stamp == "000264"
