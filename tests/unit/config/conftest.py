"""Shared by the configuration tests: a small configuration, and the corpus of published files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "compat"
RANGE = [-51.2, -25.6, -3, 51.2, 25.6, 1]

_BASE: dict[str, Any] = {
    "name": "sample",
    "root_dir": "dataset/OPV2V/train",
    "validate_dir": "dataset/OPV2V/validate",
    "test_dir": "dataset/OPV2V/test",
    "yaml_parser": "load_general_params",
    "train_params": {"batch_size": 2, "epoches": 3, "eval_freq": 1, "save_freq": 1, "max_cav": 5},
    "comm_range": 70,
    "input_source": ["lidar"],
    "label_type": "lidar",
    "fusion": {"core_method": "intermediate", "dataset": "opv2v", "args": {"proj_first": False}},
    "preprocess": {
        "core_method": "SpVoxelPreprocessor",
        "args": {"voxel_size": [0.4, 0.4, 4]},
        "cav_lidar_range": RANGE,
    },
    "postprocess": {
        "core_method": "VoxelPostprocessor",
        "gt_range": RANGE,
        "anchor_args": {"cav_lidar_range": RANGE, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2},
        "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2},
        "order": "hwl",
        "max_num": 100,
        "nms_thresh": 0.15,
    },
    "model": {
        "core_method": "point_pillar",
        "args": {"point_pillar_scatter": {"num_features": 64}, "lidar_range": RANGE},
    },
    "loss": {"core_method": "point_pillar_loss", "args": {"cls": {"weight": 1.0}}},
    "optimizer": {"core_method": "Adam", "lr": 0.002},
    "lr_scheduler": {"core_method": "multistep", "gamma": 0.1, "step_size": [1, 2]},
}


@pytest.fixture(scope="session")
def sample() -> Callable[..., dict[str, Any]]:
    """A function that returns a fresh configuration with top-level keys exchanged; a value of None drops the key."""

    def build(**changes: Any) -> dict[str, Any]:
        hypes = {**copy.deepcopy(_BASE), **changes}
        return {key: value for key, value in hypes.items() if value is not None}

    return build


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of published files."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus of published files is not here")
    return CORPUS
