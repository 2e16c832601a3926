"""Stored detections: what goes in comes out, damaged files are refused."""

import numpy as np
import pytest
import torch

from opencood.errors import DataError, StorageError
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.files import read_yaml, write_atomically, write_yaml


def frame(detections: int, truths: int, **about) -> FrameDetections:
    generator = np.random.default_rng(detections * 10 + truths)
    return FrameDetections.of(
        generator.normal(size=(detections, 8, 3)),
        generator.random(detections),
        generator.normal(size=(truths, 8, 3)),
        **about,
    )


def test_saved_detections_come_back_to_the_bit(tmp_path):
    frames = (frame(3, 2, name="a", message_bytes=120), frame(0, 4, name="b"), frame(2, 0), frame(0, 0))
    stored = DetectionSet(frames, {"fusion_method": "late", "range": [1.5, None]})
    loaded = DetectionSet.load(stored.save(tmp_path / "deep" / "boxes.npz"))
    assert loaded.protocol == stored.protocol
    assert len(loaded) == 4
    for got, want in zip(loaded, stored, strict=True):
        assert (got.name, got.message_bytes) == (want.name, want.message_bytes)
        np.testing.assert_array_equal(got.boxes, want.boxes)
        np.testing.assert_array_equal(got.scores, want.scores)
        np.testing.assert_array_equal(got.ground_truth, want.ground_truth)


def test_classes_come_back_and_select(tmp_path):
    generator = np.random.default_rng(0)
    boxes, truths = generator.normal(size=(3, 8, 3)), generator.normal(size=(2, 8, 3))
    scored = np.array([[0.9, 2], [0.5, 1], [0.4, 2]])
    frames = (FrameDetections.of(boxes, scored, (truths, [2, 3])), FrameDetections.of(None, None, (truths[:1], [1])))
    loaded = DetectionSet.load(DetectionSet(frames).save(tmp_path / "boxes.npz"))
    assert loaded.labels == (1, 2, 3)
    for got, want in zip(loaded, frames, strict=True):
        np.testing.assert_array_equal(got.scores, want.scores)
        np.testing.assert_array_equal(got.classes, want.classes)
        np.testing.assert_array_equal(got.ground_truth_classes, want.ground_truth_classes)
    second = loaded.of_class(2).frames
    np.testing.assert_array_equal(second[0].boxes, frames[0].boxes[[0, 2]])
    assert [len(one.ground_truth) for one in second] == [1, 0]
    assert DetectionSet((frame(1, 1),)).labels == ()


def test_an_empty_set_can_be_stored(tmp_path):
    assert len(DetectionSet.load(DetectionSet(()).save(tmp_path / "none.npz"))) == 0


def test_none_means_nothing_detected():
    empty = FrameDetections.of(None, None, torch.zeros(2, 8, 3))
    assert empty.boxes.shape == (0, 8, 3)
    assert empty.scores.shape == (0,)
    assert empty.ground_truth.shape == (2, 8, 3)


def test_megabits_are_the_mean_over_metered_frames():
    metered = DetectionSet((frame(1, 1, message_bytes=250_000), frame(1, 1, message_bytes=0)))
    assert metered.megabits_per_frame() == pytest.approx(1.0)
    assert DetectionSet((frame(1, 1),)).megabits_per_frame() is None


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "foreign"])
def test_bad_files_are_named(tmp_path, damage):
    path = tmp_path / "boxes.npz"
    if damage == "text":
        path.write_text("hello")
    if damage == "truncated":
        whole = DetectionSet((frame(3, 2),)).save(tmp_path / "whole.npz").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    if damage == "foreign":
        np.savez(path, boxes=np.zeros(3))
    with pytest.raises(DataError, match="boxes.npz"):
        DetectionSet.load(path)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    def disk_full(handle):
        handle.write(b"half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "report.yaml"
    target.write_text("old: true\n")
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(target, disk_full)
    assert target.read_text() == "old: true\n"
    assert list(tmp_path.iterdir()) == [target]


def test_yaml_round_trip(tmp_path):
    path = write_yaml(tmp_path / "eval.yaml", {"ap30": 0.5, "nothing": float("nan"), "list": [0.0, 1.0]})
    assert path.read_text().startswith("ap30: 0.5\nnothing: .nan\nlist:\n- 0.0\n")
    assert read_yaml(path)["ap30"] == 0.5


def test_unreadable_yaml_is_named(tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text("a: [")
    with pytest.raises(DataError, match="eval.yaml"):
        read_yaml(path)


def test_methods_can_share_one_ground_truth():
    one = DetectionSet((frame(3, 2, name="a"), frame(1, 1, name="b")))
    other = DetectionSet((frame(0, 2, name="a"), frame(0, 5, name="b")))
    shared = one.against(other)
    assert [len(entry.ground_truth) for entry in shared] == [2, 5]
    assert [len(entry.boxes) for entry in shared] == [3, 1]
    with pytest.raises(DataError, match="different frames"):
        one.against(DetectionSet((frame(0, 2, name="a"),)))
