"""Post-processors: labels to heads and back to boxes, filters, ground truth."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from opencood.errors import ConfigError, DataError
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.coding import direction_bins
from opencood.geometry.poses import x_to_world
from opencood.registry import REGISTRY

LIMITS = [-12.8, -12.8, -3.0, 12.8, 12.8, 1.0]
SECTION: dict[str, Any] = {
    "core_method": "VoxelPostprocessor",
    "gt_range": LIMITS,
    "anchor_args": {
        "cav_lidar_range": LIMITS, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2,
        "vw": 0.4, "vh": 0.4, "W": 64, "H": 64,
    },
    "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2},
    "order": "hwl",
    "nms_thresh": 0.15,
    "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]},
}  # fmt: skip
BOXES = np.array([[-5.0, 3.0, -1.0, 1.5, 1.7, 4.1, 0.3], [6.0, -4.0, -1.0, 1.6, 1.8, 4.5, -2.5]])
STILL = {"transformation_matrix": torch.eye(4)}


def build(**changes: Any) -> Any:
    section = SECTION | changes
    return REGISTRY.build("postprocessor", section["core_method"], {"section": section}, train=False)


def perfect_heads(processor: Any, boxes: np.ndarray = BOXES) -> dict[str, torch.Tensor]:
    """Heads of a detector that learned its labels: one sure positive, deltas and direction bins as encoded."""
    labels = processor.generate_label(gt_box_center=boxes, mask=np.ones(len(boxes)))
    positive, targets = torch.from_numpy(labels["pos_equal_one"]), torch.from_numpy(labels["targets"])
    yaws = targets.reshape(*positive.shape, 7)[..., 6] + torch.from_numpy(processor.anchors()[..., 6])
    directions = torch.nn.functional.one_hot(direction_bins(yaws, 2, 0.7853), 2).flatten(-2)
    maps = {"cls_preds": positive * 12 - 6, "reg_preds": targets, "dir_preds": directions}
    return {name: values.float().permute(2, 0, 1)[None] for name, values in maps.items()}


def found(boxes: torch.Tensor) -> np.ndarray:
    return np.array(sorted(boxes.numpy().tolist()))


def expected(boxes: np.ndarray = BOXES) -> np.ndarray:
    return np.array(sorted(boxes_to_corners_3d(boxes, "hwl").tolist()))


def test_labels_decode_to_the_ground_truth() -> None:
    processor = build()
    boxes, scores = processor.post_process({"ego": STILL}, {"ego": perfect_heads(processor)})

    np.testing.assert_allclose(found(boxes), expected(), atol=1e-4)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_old_names_are_accepted_and_new_ones_win() -> None:
    processor = build()
    heads = perfect_heads(processor)
    old = {"psm": heads["cls_preds"], "rm": heads["reg_preds"], "dm": heads["dir_preds"]}
    both = old | {"rm": torch.zeros_like(heads["reg_preds"]), "reg_preds": heads["reg_preds"]}

    for outputs in (old, both):
        np.testing.assert_allclose(
            found(processor.post_process({"ego": STILL}, {"ego": outputs})[0]), expected(), atol=1e-4
        )


def test_collaborators_are_projected_and_suppressed_together() -> None:
    processor = build()
    heads = perfect_heads(processor, BOXES[:1])
    away = {"transformation_matrix": torch.from_numpy(x_to_world([7.0, 0, 0, 0, 0, 0])).float()}
    samples = {"ego": STILL, "7": away, "8": STILL}

    boxes, scores = processor.post_process(samples, {"ego": heads, "7": heads, "8": heads})

    moved = BOXES[:1] + [[7, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(found(boxes), expected(np.concatenate([BOXES[:1], moved])), atol=1e-4)
    assert len(processor.post_process(samples, {"ego": heads})[0]) == 1
    with pytest.raises(DataError, match="'9'"):
        processor.post_process(samples, {"9": heads})


def test_nothing_found_is_none_and_everything_filtered_is_empty() -> None:
    processor = build()
    heads = perfect_heads(processor)
    silent = heads | {"cls_preds": torch.full_like(heads["cls_preds"], -9.0)}
    high = {"transformation_matrix": torch.from_numpy(x_to_world([0, 0, 5.0, 0, 0, 0])).float()}

    assert processor.post_process({"ego": STILL}, {"ego": silent}) == (None, None)
    boxes, scores = processor.post_process({"ego": high}, {"ego": heads})
    assert boxes.shape == (0, 8, 3)
    assert scores.shape == (0,)


def test_limits_are_options() -> None:
    truck = np.array([[0.0, 0.0, 0.5, 3.6, 2.5, 9.0, 0.0]])
    anchors = SECTION["anchor_args"] | {"l": 9.0, "w": 2.5, "h": 3.6}
    outputs = perfect_heads(build(anchor_args=anchors), truck)
    count = {}
    for name, options in {
        "published": {},
        "long": {"max_box_extent": 12.0},
        "off": {"max_box_extent": None, "box_height_range": None, "gt_range": [*LIMITS[:2], -9, *LIMITS[3:5], 9]},
    }.items():
        count[name] = len(build(anchor_args=anchors, **options).post_process({"ego": STILL}, {"ego": outputs})[0])
    assert count == {"published": 0, "long": 0, "off": 1}


def test_predicted_overlap_weighs_the_score_with_its_fourth_power() -> None:
    processor = build()
    heads = perfect_heads(processor, BOXES[:1])
    sure = processor.post_process({"ego": STILL}, {"ego": heads})[1][0]
    unsure = {"iou_preds": torch.full_like(heads["cls_preds"], -50.0)}

    scores = processor.post_process({"ego": STILL}, {"ego": heads | unsure})[1]

    assert scores[0] == pytest.approx(sure * 0.5**4)


def test_heads_without_anchors_hold_boxes() -> None:
    processor = build()
    scores = torch.full((1, 1, 2, 2), -9.0)
    scores[0, 0, 1, 0] = 3.0
    boxes = torch.zeros(1, 4, 7)
    boxes[0, 2] = torch.from_numpy(BOXES[0])

    corners, _ = processor.post_process({"ego": STILL}, {"ego": {"cls_preds": scores, "reg_preds": boxes}})

    np.testing.assert_allclose(corners.numpy(), expected(BOXES[:1]), atol=1e-5)


def test_misfits_are_named() -> None:
    processor = build()
    heads = perfect_heads(processor)
    for outputs, message in (
        ({"cls_preds": heads["cls_preds"]}, "no 'reg_preds'"),
        ({name: head[..., ::2] for name, head in heads.items()}, "does not fit 2048 anchors"),
        ({name: head.repeat(2, 1, 1, 1) for name, head in heads.items()}, "one sample at a time"),
    ):
        with pytest.raises(DataError, match=message):
            processor.post_process({"ego": STILL}, {"ego": outputs})
    with pytest.raises(ConfigError, match="dir_args"):
        build(dir_args=None).post_process({"ego": STILL}, {"ego": heads})
    with pytest.raises(ConfigError, match=r"postprocess.target_args: missing key 'pos_threshold'"):
        build(target_args={}).generate_label(gt_box_center=BOXES, mask=np.ones(2))


def test_labels_are_stacked_and_processors_travel_to_workers() -> None:
    processor = build()
    processor.post_process({"ego": STILL}, {"ego": perfect_heads(processor)})
    label = pickle.loads(pickle.dumps(processor)).generate_label(gt_box_center=BOXES, mask=np.ones(2))
    batch = processor.collate_batch([label, label])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "pos_equal_one": (2, 32, 32, 2),
        "neg_equal_one": (2, 32, 32, 2),
        "targets": (2, 32, 32, 14),
    }


def test_uncertainty_runs_parallel_to_the_boxes() -> None:
    processor = build(core_method="UncertaintyVoxelPostprocessor")
    heads = perfect_heads(processor)
    heads["unc_preds"] = torch.arange(6 * 32 * 32).reshape(1, 6, 32, 32).float()
    first = torch.cat([heads["cls_preds"], torch.full_like(heads["cls_preds"], -9.0)])
    batch = {name: head.repeat(2, 1, 1, 1) for name, head in heads.items()} | {"cls_preds": first}

    boxes, scores, uncertainty = processor.post_process({"ego": STILL}, {"ego": heads}, return_uncertainty=True)
    corners, boxes7, own = processor.post_process_stage1(batch)

    assert boxes.shape == (2, 8, 3)
    assert scores.shape == (2,)
    assert uncertainty.shape == (2, 3)
    assert [len(part) for part in corners] == [len(part) for part in boxes7] == [2, 0]
    torch.testing.assert_close(own[0], uncertainty)
    silent = {name: head[1:] for name, head in batch.items()}
    assert processor.post_process_stage1(silent) == (None, None, None)


def sample(boxes: np.ndarray, ids: list[Any], matrix: np.ndarray | None = None) -> dict[str, Any]:
    padded = np.concatenate([boxes, np.zeros((2, boxes.shape[1]))])
    transform = torch.eye(4) if matrix is None else torch.from_numpy(matrix).float()
    return {
        "object_bbx_center": torch.from_numpy(padded)[None],
        "object_bbx_mask": torch.tensor([1.0] * len(boxes) + [0.0, 0.0])[None],
        "object_ids": ids,
        "transformation_matrix": transform,
        "transformation_matrix_clean": transform,
    }


def test_ground_truth_is_merged_by_id_and_the_first_agent_wins() -> None:
    shifted, outside = BOXES + 0.2, BOXES[:1] + [[0, 40, 0, 0, 0, 0, 0]]
    others = np.concatenate([shifted[1:], outside, BOXES[:1] + [[3, 0, 0, 0, 0, 0, 0]]])
    merged = build().generate_gt_bbx({"ego": sample(BOXES, [5, 6]), "9": sample(others, ["6", 70, 8])})

    np.testing.assert_allclose(found(merged), expected(np.concatenate([BOXES, others[2:]])), atol=1e-5)
    with pytest.raises(DataError, match="2 valid boxes but 1 object ids"):
        build().generate_gt_bbx({"ego": sample(BOXES, [5])})


def test_ground_truth_without_ids_is_merged_by_overlap_of_any_number_of_agents() -> None:
    third = BOXES[:1] + [[0, -9, 0, 0, 0, 0, 0]]
    agents = {"ego": sample(BOXES, []), 1: sample(BOXES[1:] + 0.2, []), 2: sample(np.concatenate([third, BOXES]), [])}
    merged = build().generate_gt_bbx_by_iou(agents)
    np.testing.assert_allclose(found(merged), expected(np.concatenate([BOXES, third])), atol=1e-5)


def class_settings(name: str, size: list[float], height: float) -> dict[str, Any]:
    return {
        "class_name": name, "anchor_sizes": [size], "anchor_rotations": [0, 1.57], "anchor_bottom_heights": [height],
        "align_center": True, "feature_map_stride": 2, "matched_threshold": 0.6, "unmatched_threshold": 0.45,
    }  # fmt: skip


def multiclass(**options: Any) -> Any:
    classes = [class_settings("vehicle", [3.9, 1.6, 1.56], -1.0), class_settings("truck", [8.0, 3.0, 3.0], -1.0)]
    anchors = SECTION["anchor_args"] | {"anchor_generator_config": classes}
    return build(anchor_args=anchors, gt_range=[*LIMITS[:2], -9, *LIMITS[3:5], 9], **options)


def test_classes_survive_the_round_trip() -> None:
    processor = multiclass()
    boxes = np.array([[-5.0, 3, -1, 1.5, 1.7, 4.1, 0.1, 1], [5.0, -4, -1, 3.1, 2.9, 8.2, 1.5, 2]])
    labels = processor.generate_label(gt_box_center=boxes, mask=np.ones(2))
    classes = torch.from_numpy(labels["pos_equal_one"])
    logits = torch.nn.functional.one_hot(classes.clamp(min=0).long(), 3)[..., 1:].flatten(-2) * 12 - 6.0
    regression = torch.from_numpy(labels["targets"]).flatten(-2)
    outputs = {"cls_preds": logits.permute(2, 0, 1)[None], "reg_preds": regression.permute(2, 0, 1)[None]}

    corners, scored = processor.post_process({"ego": STILL}, {"ego": outputs})

    assert processor.class_names == ["vehicle", "truck"]
    assert set(np.unique(labels["pos_equal_one"])) == {-1, 0, 1, 2}
    np.testing.assert_allclose(found(corners), expected(boxes[:, :7]), atol=1e-3)
    assert sorted(scored[:, 1].tolist()) == [1, 2]
    truth, ids = processor.generate_gt_bbx({"ego": sample(boxes, [3, 4])})
    np.testing.assert_allclose(found(truth), expected(boxes[:, :7]), atol=1e-5)
    assert ids.tolist() == [1, 2]


@pytest.mark.parametrize(("per_class", "count"), [(False, 1), (True, 2)])
def test_classes_may_be_suppressed_separately(per_class: bool, count: int) -> None:
    processor = multiclass(nms_per_class=per_class)
    logits, regression = torch.full((1, 8, 32, 32), -9.0), torch.zeros(1, 28, 32, 32)
    logits[0, 0, 16, 16] = 2.0  # a vehicle anchor that says vehicle
    logits[0, 5, 16, 16] = 3.0  # a truck anchor in the same place that says truck

    _, scored = processor.post_process({"ego": STILL}, {"ego": {"psm": logits, "rm": regression}})

    assert scored[:, 1].tolist() == [2, 1][:count]


BEV: dict[str, Any] = {
    "core_method": "BevPostprocessor", "gt_range": LIMITS, "order": "lwh", "nms_thresh": 0.15,
    "target_args": {"score_threshold": 0.5},
    "geometry_param": {"L1": -12.8, "W1": -12.8, "res": 0.4, "downsample_rate": 2, "label_shape": [32, 32, 7]},
}  # fmt: skip


def test_maps_seen_from_above_decode_to_the_ground_truth() -> None:
    processor = build(**BEV)
    boxes = BOXES[:, [0, 1, 2, 5, 4, 3, 6]]
    label = processor.generate_label(gt_box_center=np.concatenate([boxes, boxes * 0]), mask=np.array([1, 1, 0, 0]))
    label_map = torch.from_numpy(label["label_map"])
    heads = {"cls": label_map[None, :1] * 12 - 6, "reg": label_map[None, 1:]}

    corners, _ = processor.post_process({"ego": STILL}, {"ego": heads})

    np.testing.assert_allclose(found(corners), np.array(sorted(label["bev_corners"][:2].tolist())), atol=1e-3)
    assert not label["bev_corners"][2:].any()
    silent = {"cls": heads["cls"] - 99, "reg": heads["reg"]}
    assert processor.post_process({"ego": STILL}, {"ego": silent}) == (None, None)
    with pytest.raises(ConfigError, match="lwh"):
        build(**(BEV | {"order": "hwl"}))


def test_maps_seen_from_above_have_no_anchors() -> None:
    """Whoever asks every post-processor for its anchors, as batches and checks do, gets an empty list of boxes."""
    anchors = build(**BEV).anchors()
    assert anchors.shape == (0, 7) and anchors.dtype == np.float64
