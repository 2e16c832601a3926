"""Batches in a small form: what is made late is what it would have been, and little travels."""

import pickle

import numpy as np
import torch

from opencood.batch import Deferred, to_device
from opencood.data.images import PendingPictures, looked_up
from opencood.geometry.anchors import anchor_grid
from opencood.geometry.targets import PendingLabels, assign_targets, compact_targets


class Counted:
    """Pending entries that count how often they are made."""

    names = ("large", "other")

    def __init__(self):
        self.made = 0

    def make(self, device):
        self.made += 1
        return {"large": torch.ones(3, device=device), "other": torch.zeros(1, device=device)}


def test_entries_are_made_once_and_only_when_asked_for():
    pending = Counted()
    part = Deferred({"small": torch.ones(1)}, pending)
    assert list(part) == ["large", "other", "small"] and len(part) == 3 and "large" in part
    assert torch.equal(part["small"], torch.ones(1)) and pending.made == 0
    assert torch.equal(part["large"], torch.ones(3)) and torch.equal(part["other"], torch.zeros(1))
    assert pending.made == 1


def test_joined_with_more_it_stays_small():
    pending = Counted()
    part = Deferred({}, pending) | {"more": 1, "other": torch.ones(1)}
    assert pending.made == 0
    assert part["more"] == 1 and torch.equal(part["other"], torch.ones(1))
    assert torch.equal(dict(part)["large"], torch.ones(3)) and torch.equal(part["other"], torch.ones(1))


def test_it_is_made_on_the_device_and_the_rest_moves():
    moved = to_device({"label_dict": Deferred({"record_len": torch.ones(1), "x": torch.ones(1)}, Counted())}, "meta")
    devices = {key: value.device.type for key, value in moved["label_dict"].items()}
    assert devices == {"large": "meta", "other": "meta", "record_len": "cpu", "x": "meta"}


def scenes(count):
    size = {"l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2, "feature_stride": 2, "vw": 0.4, "vh": 0.4}
    anchors = anchor_grid(
        size | {"cav_lidar_range": [-25.6, -25.6, -3, 25.6, 25.6, 1], "W": 128, "H": 128, "D": 1}, "hwl"
    )
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-20, 20, (count, 6, 7)) * [1, 1, 0, 0, 0, 0, 0.05] + [0, 0, -1, 1.5, 1.7, 4.2, 0]
    mask = np.arange(6)[None] < rng.integers(1, 7, count)[:, None]
    return anchors, boxes, mask.astype(float)


def test_labels_written_out_late_are_the_same_and_travel_light():
    anchors, boxes, masks = scenes(3)
    dense = [assign_targets(b, m, anchors, "hwl", 0.6, 0.45) for b, m in zip(boxes, masks, strict=True)]
    pending = PendingLabels.of(
        [compact_targets(b, m, anchors, "hwl", 0.6, 0.45) for b, m in zip(boxes, masks, strict=True)]
    )
    made = pending.make("cpu")
    for key in PendingLabels.names:
        np.testing.assert_array_equal(made[key].numpy(), np.stack([one[key] for one in dense]))
    sent = pickle.dumps(Deferred({}, pending))
    assert len(sent) < sum(values.nbytes for values in made.values()) / 20
    assert torch.equal(pickle.loads(sent)["targets"], made["targets"])


def test_pictures_looked_up_on_a_device_are_the_same():
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7, 4), dtype=np.uint8))
    assert torch.equal(looked_up(pictures), PendingPictures(pictures).make("cpu")["imgs"])
    assert torch.equal(looked_up(pictures[..., :3]), PendingPictures(pictures[..., :3]).make("cpu")["imgs"])
