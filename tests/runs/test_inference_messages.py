"""Fusing received boxes gives what fusing the heads themselves gives."""

import torch

from opencood.communication import Channel, Message
from opencood.experiments.late_messages import CandidateBoxes
from opencood.registry import REGISTRY

SECTION = {
    "core_method": "VoxelPostprocessor",
    "gt_range": [-25.6, -25.6, -3, 25.6, 25.6, 1],
    "anchor_args": {
        "cav_lidar_range": [-25.6, -25.6, -3, 25.6, 25.6, 1], "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2,
        "feature_stride": 2, "vw": 0.8, "vh": 0.8, "vd": 4, "W": 64, "H": 64, "D": 1,
    },
    "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.3},
    "order": "hwl",
    "max_num": 100,
    "nms_thresh": 0.15,
    "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]},
}  # fmt: skip


def heads(seed: int, iou: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int, scale: float, shift: float = 0.0) -> torch.Tensor:
        return torch.randn((1, channels, 32, 32), generator=generator) * scale + shift

    made = {"cls_preds": draw(2, 1.5, -4), "reg_preds": draw(14, 0.2), "dir_preds": draw(4, 1)}
    return made | ({"iou_preds": draw(2, 1)} if iou else {})


def test_received_boxes_fuse_like_heads():
    processor = REGISTRY.build("postprocessor", "VoxelPostprocessor", {"section": SECTION}, train=False)
    reduce, channel = CandidateBoxes(processor), Channel()
    moved = torch.eye(4)
    moved[0, 3] = 4.0
    data = {"ego": {"transformation_matrix": torch.eye(4)}, "641": {"transformation_matrix": moved}}
    for iou in (False, True):
        whole = {"ego": heads(0, iou), "641": heads(1, iou)}
        received = channel.transmit(Message(reduce(whole["641"]), kind="boxes"), sender=1, receiver=0)
        want = processor.post_process(data, whole)
        got = processor.post_process(data, {"ego": whole["ego"], "641": dict(received.tensors)})
        assert len(want[1]) > 10
        assert torch.equal(got[0], want[0])
        torch.testing.assert_close(got[1], want[1], rtol=1e-6, atol=0)


def test_received_boxes_of_several_classes_fuse_like_heads():
    anchor = {"anchor_rotations": [0, 1.57], "align_center": True, "feature_map_stride": 2}
    anchor |= {"matched_threshold": 0.6, "unmatched_threshold": 0.45}
    classes = [
        anchor | {"class_name": "vehicle", "anchor_sizes": [[3.9, 1.6, 1.56]], "anchor_bottom_heights": [-1.1]},
        anchor | {"class_name": "truck", "anchor_sizes": [[8.0, 3.0, 3.0]], "anchor_bottom_heights": [-0.4]},
    ]
    section = SECTION | {"anchor_args": SECTION["anchor_args"] | {"anchor_generator_config": classes}}
    processor = REGISTRY.build("postprocessor", "VoxelPostprocessor", {"section": section}, train=False)
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn((1, 8, 32, 32), generator=generator) * 1.5 - 4
    whole = {"cls_preds": logits, "reg_preds": torch.randn((1, 28, 32, 32), generator=generator) * 0.2}
    whole |= {"dir_preds": torch.randn((1, 8, 32, 32), generator=generator)}  # never trained, never looked at
    data = {"ego": {"transformation_matrix": torch.eye(4)}}
    want = processor.post_process(data, {"ego": whole})
    got = processor.post_process(data, {"ego": CandidateBoxes(processor)(whole)})
    assert len(want[1]) > 10 and set(want[1][:, 1].tolist()) == {1, 2}
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_an_agent_without_candidates_sends_an_empty_list():
    processor = REGISTRY.build("postprocessor", "VoxelPostprocessor", {"section": SECTION}, train=False)
    silent = heads(0) | {"cls_preds": torch.full((1, 2, 32, 32), -9.0)}
    reduced = CandidateBoxes(processor)(silent)
    assert reduced["reg_preds"].shape == (1, 0, 7)
    assert processor.post_process({"ego": {"transformation_matrix": torch.eye(4)}}, {"ego": reduced}) == (None, None)


def test_received_boxes_keep_their_uncertainty():
    section = SECTION | {"core_method": "UncertaintyVoxelPostprocessor"}
    processor = REGISTRY.build("postprocessor", section["core_method"], {"section": section}, train=False)
    generator = torch.Generator().manual_seed(3)
    whole = heads(0) | {"unc_preds": torch.randn((1, 6, 32, 32), generator=generator)}  # x, y, yaw of two anchors
    data = {"ego": {"transformation_matrix": torch.eye(4)}}
    want = processor.post_process(data, {"ego": whole}, return_uncertainty=True)
    got = processor.post_process(data, {"ego": CandidateBoxes(processor)(whole)}, return_uncertainty=True)
    assert len(want[2]) > 10 and want[2].shape[1] == 3
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)
