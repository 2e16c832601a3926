"""Any training sample can be rebuilt alone from (seed, epoch, index), whatever else was read and by whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from opencood.data.build import build_dataset
from tests.unit.data.conftest import PICTURES
from tests.unit.data.test_combined import write_v2v4real, write_v2xreal
from tests.unit.data.test_samples import METHODS, NOISE, same

Hypes = Callable[..., Any]
EPOCH = 3
AUGMENT = [
    {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]},
    {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.7, 0.7]},
    {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
    {"NAME": "random_lidar_downsampling", "DOWNSAMPLE_RATIO": [0.8]},
]
WILD = PICTURES | {"resize_lim": [0.5, 0.7], "rot_lim": [-5, 5], "rand_flip": True, "bot_pct_lim": [0, 0.2]}
KINDS = [*METHODS, "camera", "kd", "groups", "stamp", "unlabelled", "delayed", "v2xreal", "combined"]


@pytest.fixture
def make(pictured: Path, tmp_path: Path, hypes: Hypes, stamp: Hypes) -> Callable[[str], Any]:
    """``make(kind)`` -> a configuration in which everything that can be drawn is drawn."""
    drawn: dict[str, Any] = {"data_augment": AUGMENT, "noise_setting": NOISE, "seed": 7, "parity": "fixed"}

    def configuration(kind: str) -> Any:
        if kind == "stamp":
            content = stamp(train_ego="m2", **drawn)
            content["heter"]["modality_setting"]["m2"]["data_aug_conf"] = WILD
            return content
        methods = {"camera": "late", "groups": "intermediateheter", "unlabelled": "early", "combined": "early"}
        method = kind if kind in METHODS else methods.get(kind, "intermediate")
        content = hypes(pictured, method, **drawn)
        if kind == "camera":
            content["input_source"] = ["lidar", "camera", "depth"]
            content["fusion"]["args"]["data_aug_conf"] = WILD
        elif kind == "kd":
            content["kd_flag"] = True
        elif kind == "unlabelled":
            content["labels"] = False
        elif kind == "delayed":
            content["wild_setting"] = {"async": True, "async_mode": "real", "async_overhead": 300}
        elif kind == "groups":
            setting = content["heter"]["modality_setting"]["m1"]
            content["heter"] |= {
                "modality_setting": {"m1": setting, "m2": setting}, "heter_group": [["m1", "m2"]],
                "mapping_dict": {"m1": "m1", "m2": "m2"}, "ego_modality": ["m1", "m2"],
            }  # fmt: skip
            content |= {
                "flavor": "codealign",
                "modality_assignment": {"2021_01_01_10_00_00": {"641": "m1", "1045": "m1"}},
            }
        elif kind in ("v2xreal", "combined"):
            real = tmp_path / "v2xreal"
            content["root_dir"] = str(real if real.is_dir() else write_v2xreal(real))
            content["fusion"]["dataset"] = "v2xreal"
        if kind == "combined":
            other = tmp_path / "v2v4real"
            second = {"path": str(other if other.is_dir() else write_v2v4real(other)), "dataset": "v2v4real"}
            content["root_dir"] = [{"path": content["root_dir"]}, second]
        return content

    return configuration


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_sample_can_be_rebuilt_alone(make: Callable[[str], Any], kind: str) -> None:
    content = make(kind)
    busy = build_dataset(content, train=True)
    for epoch in range(EPOCH + 1):
        busy.reinitialize(epoch)
        busy[0]
    wanted = [busy.collate_batch_train([busy[index]]) for index in range(len(busy))]
    alone = build_dataset(content, train=True)
    alone.reinitialize(EPOCH)
    last = len(wanted) - 1
    assert same(alone.collate_batch_train([alone[last]]), wanted[last]), "without reading any other sample"
    for workers in (1, 2):
        loader = DataLoader(alone, 1, num_workers=workers, collate_fn=alone.collate_batch_train)
        assert all(same(batch, one) for batch, one in zip(loader, wanted, strict=True))
    alone.reinitialize(EPOCH + 1)
    assert not same_or_unlike(alone.collate_batch_train([alone[last]]), wanted[last]), "another epoch draws anew"


def same_or_unlike(first: Any, second: Any) -> bool:
    """As ``same``; batches with different entries are different."""
    try:
        return same(first, second)
    except AssertionError:
        return False
