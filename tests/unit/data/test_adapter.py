"""STAMP's samples, agents with both sensors, and labels with regions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opencood.data.build import build_dataset
from opencood.errors import ConfigError, DataError
from opencood.experiments.sanity import check_frame
from opencood.geometry.boxes import boxes_to_corners_3d, standup_boxes
from tests.unit.data.conftest import PICTURES, RANGE

Hypes = Callable[..., Any]


def batch_of(content: Any, train: bool = False, **options: Any) -> Any:
    dataset = build_dataset(content, train, **options)
    return (dataset.collate_batch_train if train else dataset.collate_batch_test)([dataset[0]])["ego"]


@pytest.mark.parametrize("train", [True, False])
def test_every_agent_is_encoded_as_itself_and_as_the_protocol(stamp: Hypes, train: bool) -> None:
    batch = batch_of(stamp(), train)
    assert batch["agent_modality_list"] == ["m1", "m2"]
    assert batch["inputs_m0"]["voxel_coords"][:, 0].unique().tolist() == [0, 1]
    assert batch["inputs_m1"]["voxel_coords"][:, 0].unique().tolist() == [0]
    assert batch["inputs_m2"]["imgs"].shape == (1, 1, 4, 12, 16), "depth is read whatever input_source says"
    own = batch["inputs_m0"]["voxel_coords"][:, 0] == 0
    assert torch.equal(batch["inputs_m0"]["voxel_features"][own], batch["inputs_m1"]["voxel_features"])
    assert batch["transformation_matrix"].shape == (2, 4, 4) if not train else "transformation_matrix" not in batch


def test_labels_come_with_the_anchors_of_every_modality(stamp: Hypes) -> None:
    batch = batch_of(stamp())
    assert batch["label_dict"]["targets"].shape == (1, 32, 32, 14)
    assert batch["label_dict_protocol"]["targets"].shape == (1, 16, 16, 14)
    assert batch["label_dict_m1"]["targets"].shape == batch["label_dict_m2"]["targets"].shape == (1, 32, 32, 14)
    assert "label_dict_m0" not in batch, "no agent is the protocol"
    assert {name: tuple(anchors.shape) for name, anchors in batch["anchor_box_dict"].items()} == {
        "m0": (16, 16, 2, 7), "m1": (32, 32, 2, 7), "m2": (32, 32, 2, 7),
    }  # fmt: skip
    shared = batch["label_dict_protocol"]
    assert sorted(shared["object_bbx_center"][0, :4, 0].tolist()) == sorted(
        batch["object_bbx_center"][0, :4, 0].tolist()
    )
    torch.testing.assert_close(batch["label_dict_m2"]["object_bbx_center"][0], batch["object_bbx_center_single"][1])
    assert batch["num_anchors_per_location"] is None


def test_files_without_common_sections_take_those_of_the_ego(stamp: Hypes) -> None:
    content = dict(stamp())
    wanted = batch_of(content)["label_dict"]["targets"]
    del content["postprocess"], content["preprocess"]
    assert torch.equal(batch_of(content)["label_dict"]["targets"], wanted)
    assert check_frame(build_dataset(content, train=True), 0).boxes == 4
    content["postprocess"] = {
        name: one.pop("postprocess") for name, one in content["heter"]["modality_setting"].items()
    }
    assert torch.equal(batch_of(content)["label_dict"]["targets"], wanted), "the sections may stand by task"


def test_the_boxes_of_one_agent_suffice_to_evaluate(stamp: Hypes) -> None:
    dataset = build_dataset(stamp(), train=False)
    batch = dataset.collate_batch_test([dataset[0]])
    assert dataset.post_processor.generate_gt_bbx(batch).shape == (4, 8, 3)


def test_drawn_maps_are_handed_on(stamp: Hypes, pictured: Path) -> None:
    content = stamp(add_data_extension=["bev_dynamic.png", "bev_visibility.png"])
    labels = batch_of(content)["label_dict"]
    assert labels["bev_dynamic"].shape == (1, 8, 8, 3) and labels["bev_dynamic"][0, 0, 0].tolist() == [1, 2, 3]
    next(pictured.glob("*/1045/000068_bev_dynamic.png")).unlink()
    with pytest.raises(DataError, match="bev_dynamic"):
        batch_of(content)


def test_the_origin_of_points_is_told(stamp: Hypes) -> None:
    assert batch_of(stamp(), visualize=True)["origin_lidar_modality"] == ["m1", "m2"]


def test_a_missing_protocol_is_named(stamp: Hypes) -> None:
    content = stamp()
    del content["heter"]["modality_setting"]["m0"]
    with pytest.raises(ConfigError, match="modality_setting.m0: missing"):
        build_dataset(content, train=False)


def test_stamp_on_v2xreal_is_the_same_sample(stamp: Hypes) -> None:
    content = stamp()
    content["fusion"] |= {"core_method": "intermediateheterv2xreal", "stamp": True}
    assert {"inputs_m0", "label_dict_protocol"} <= batch_of(content).keys()


@pytest.mark.parametrize("word", ["lidar&camera", "lidar_camera"])
def test_an_agent_may_carry_both_sensors(stamp: Hypes, word: str) -> None:
    content = stamp(input_source=["lidar", "camera"])
    content["fusion"]["core_method"] = "intermediateheter"
    setting = content["heter"]["modality_setting"]
    setting["m1"] |= {"sensor_type": word, "data_aug_conf": PICTURES}
    batch = batch_of(content)
    both = batch["inputs_m1"]
    assert both.keys() == {"lidar", "camera"}
    assert both["lidar"]["voxel_features"].shape[1:] == (32, 4) and both["camera"]["imgs"].shape == (1, 1, 3, 12, 16)
    del setting["m1"]["data_aug_conf"]
    with pytest.raises(ConfigError, match="lidar&camera with both"):
        build_dataset(content, train=False)


def test_homogeneous_agents_with_both_sensors(pictured: Path, hypes: Hypes) -> None:
    content = hypes(pictured, input_source=["lidar", "camera", "depth"])
    content["fusion"]["args"]["data_aug_conf"] = PICTURES
    batch = batch_of(content)
    assert batch["image_inputs"]["imgs"].shape == (2, 1, 4, 12, 16)
    assert (batch["image_inputs"]["imgs"][:, :, 3] == 7).all()
    assert batch["processed_lidar"]["voxel_coords"][:, 0].unique().tolist() == [0, 1]


def test_labels_with_the_ground_that_objects_cover(pictured: Path, hypes: Hypes) -> None:
    content = hypes(pictured, "intermediateheter")
    content["fusion"]["core_method"] = "intermediatepnpda"
    batch = batch_of(content)
    for labels, agents in ((batch["label_dict"], [2]), (batch["label_dict_single"], [1, 1])):
        assert labels["cav_num"].tolist() == agents
        regions = labels["pos_region_ranges"]
        assert regions.shape == (len(agents), 20, 32, 32) and regions.dtype == torch.bool
    nodes = np.linspace(RANGE[0], RANGE[3], 32)
    for row in range(4):
        box = batch["object_bbx_center"][0, row : row + 1].numpy()
        x0, y0, x1, y1 = standup_boxes(boxes_to_corners_3d(box, "hwl"))[0]
        wanted = np.outer((nodes >= y0) & (nodes <= y1), (nodes >= x0) & (nodes <= x1))
        np.testing.assert_array_equal(batch["label_dict"]["pos_region_ranges"][0, row], wanted)
        assert wanted.any()
    assert not batch["label_dict"]["pos_region_ranges"][0, 4:].any()
