"""Pose correction in samples: stored boxes, what they change, what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opencood.data.build import build_dataset
from opencood.data.stored_boxes import StoredBoxes
from opencood.errors import ConfigError, DataError
from opencood.geometry.poses import x1_to_x2

NOISE = {"add_noise": True, "args": {"pos_std": 0.2, "rot_std": 0.2, "pos_mean": 0, "rot_mean": 0}}
ARGS = {"use_uncertainty": True, "landmark_SE2": True}
OBJECTS = {
    10 + k: (92.0 + 6 * (k % 4), 40.0 + 6 * (k // 4), 0.7, 37.0 * k) for k in range(12)
}  # far enough from each other to be told apart
Make = Callable[..., Any]


@pytest.fixture
def frames(folder: Make, hypes: Make, tmp_path: Path) -> tuple[Any, Path]:
    """A configuration with pose noise, and the file of boxes of a detector that sees every object exactly."""
    content = hypes(folder(objects=OBJECTS), noise_setting=NOISE, parity="fixed")
    clean = build_dataset({**content, "noise_setting": {"add_noise": False}}, train=False)
    return content, stored(tmp_path / "boxes" / "stage1_boxes.json", clean)


def stored(path: Path, clean: Any) -> Path:
    entries = {}
    for index in range(len(clean)):
        agents = clean.frame(index).agents
        corners = []
        for agent in agents:
            world = agent.objects.corners
            into = np.linalg.inv(x1_to_x2(agent.lidar_pose_clean, np.eye(4)))
            corners.append((world @ into[:3, :3].T + into[:3, 3]).tolist())
        entries[index] = {
            "cav_id_list": [agent.id for agent in agents],
            "pred_corner3d_np_list": corners,
            "uncertainty_np_list": [[[-9.0, -9.0, -7.0]] * len(boxes) for boxes in corners],
            "lidar_pose_clean_np": [agent.lidar_pose_clean.tolist() for agent in agents],
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


def relative_error(frame: Any) -> float:
    """How far the second agent's believed place is from the true one, seen from the ego, metres."""
    ego, other = frame.agents[:2]
    believed = x1_to_x2(other.lidar_pose, ego.lidar_pose)
    return float(np.linalg.norm((believed - x1_to_x2(other.lidar_pose_clean, ego.lidar_pose_clean))[:2, 3]))


@pytest.mark.parametrize("method", ["intermediate", "late", "intermediateheter", "lateheter"])
def test_boxes_put_poses_right(frames: tuple[Any, Path], hypes: Make, method: str) -> None:
    content, boxes = frames
    content = hypes(Path(content["root_dir"]), method, noise_setting=NOISE, parity="fixed")
    section = {"val_result": str(boxes), "args": ARGS}
    noisy, corrected = (build_dataset({**content, "box_align": align}, train=False) for align in (None, section))
    before, after = (relative_error(dataset.frame(0)) for dataset in (noisy, corrected))
    assert before > 0.05 and after < 0.05 * before
    assert np.array_equal(noisy.frame(0).ego.lidar_pose, corrected.frame(0).ego.lidar_pose)
    sample = corrected[0]["ego"]
    assert not np.allclose(sample["lidar_pose"], noisy[0]["ego"]["lidar_pose"]) or method.startswith("late")


def test_perturb_step_is_the_same_and_nothing_is_drawn(frames: tuple[Any, Path]) -> None:
    content, boxes = frames
    step = {"box_alignment": {"boxes": str(boxes), "args": ARGS, "when": "test"}}
    asked = build_dataset({**content, "perturb": step}, train=False)[1]["ego"]
    section = build_dataset({**content, "box_align": {"val_result": str(boxes), "args": ARGS}}, train=False)[1]["ego"]
    plain = build_dataset(content, train=False)[1]["ego"]
    assert np.array_equal(asked["pairwise_t_matrix"], section["pairwise_t_matrix"])
    assert not np.array_equal(asked["pairwise_t_matrix"], plain["pairwise_t_matrix"])
    for part, other in zip(asked["parts"], plain["parts"], strict=True):
        for name, values in part["processed_lidar"].items():
            assert np.array_equal(values, other["processed_lidar"][name])


def test_who_stays(frames: tuple[Any, Path], tmp_path: Path) -> None:
    """Agents that are too far or unknown to the file keep their poses, and so does a frame without boxes."""
    content, boxes = frames
    section = {"val_result": str(boxes), "args": ARGS}
    noisy = build_dataset(content, train=False)
    near = build_dataset({**content, "comm_range": 1.0, "box_align": section}, train=False)
    entries = json.loads(boxes.read_text())
    entries["0"] = None
    for key in ("cav_id_list", "pred_corner3d_np_list", "uncertainty_np_list", "lidar_pose_clean_np"):
        entries["1"][key] = entries["1"][key][:1]
    fewer = tmp_path / "fewer.json"
    fewer.write_text(json.dumps(entries))
    known = build_dataset({**content, "box_align": {**section, "val_result": str(fewer)}}, train=False)
    for dataset in (near, known):
        for index in range(2):
            assert relative_error(dataset.frame(index)) == pytest.approx(relative_error(noisy.frame(index)))


def test_published_gencomm_has_it_off(frames: tuple[Any, Path], hypes: Make, caplog: pytest.LogCaptureFixture) -> None:
    content, boxes = frames
    section = {"val_result": str(boxes), "args": ARGS}
    errors = {}
    for parity in ("published", "fixed"):
        heter = hypes(
            Path(content["root_dir"]), "intermediateheter", flavor="gencomm", parity=parity, box_align=section,
            noise_setting=NOISE | {"add_pose_noise": True},
        )  # fmt: skip
        with caplog.at_level(logging.WARNING):
            errors[parity] = relative_error(build_dataset(heter, train=False).frame(0))
    assert errors["fixed"] < 0.05 * errors["published"]
    assert "box_align: without effect" in caplog.text


def test_what_is_wrong_is_said(frames: tuple[Any, Path], tmp_path: Path) -> None:
    content, boxes = frames

    def refused(error: type[Exception], match: str, section: dict[str, Any], **changes: Any) -> None:
        with pytest.raises(error, match=match):
            build_dataset({**content, "box_align": section, **changes}, train=False).frame(0)

    good = {"val_result": str(boxes)}
    refused(ConfigError, "box_align.val_result: missing", {"train_result": str(boxes)})
    refused(ConfigError, "asked for twice", good, perturb={"box_alignment": {"boxes": str(boxes)}})
    refused(ConfigError, "box_align.args.thres: expected a number, found 'far'", {**good, "args": {"thres": "far"}})
    refused(DataError, "nowhere.json: cannot be read", {"val_result": str(tmp_path / "nowhere.json")})
    for text, match in (
        ('{"0": {"cav_id_list"', "broken JSON"),
        ("[1]", "expected a map from the index"),
        ('{"0": {"cav_id_list": ["1"]}}', "a frame lacks"),
        ('{"0": {"cav_id_list": ["1"], "pred_corner3d_np_list": [[[1]]], "uncertainty_np_list": [[]]}}', "lacks"),
    ):
        broken = tmp_path / "broken.json"
        broken.write_text(text)
        refused(DataError, match, {"val_result": str(broken)})
    entries = json.loads(boxes.read_text())
    for entry in entries.values():
        entry["lidar_pose_clean_np"][1][0] += 40
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(entries))
    refused(DataError, "stored for another data set or split: .* 40.0 m away", {"val_result": str(elsewhere)})


def test_the_anchor_of_the_detector_is_told_beside_the_boxes(frames: tuple[Any, Path]) -> None:
    _, boxes = frames
    assert StoredBoxes(boxes).anchor_size() is None
    boxes.with_suffix(".yaml").write_text("anchor_size: [4.5, 1.85]\n")
    assert StoredBoxes(boxes).anchor_size() == [4.5, 1.85]
    boxes.with_suffix(".yaml").write_text("anchor_size: wide\n")
    with pytest.raises(DataError, match="stage1_boxes.yaml: cannot be read"):
        StoredBoxes(boxes).anchor_size()
